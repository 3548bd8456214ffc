// Preloaded into a process (node --import), it makes native addons of onnxruntime-node unloadable there, as on a platform without them.
import Module from 'node:module';

const load = Module._extensions['.node'];
Module._extensions['.node'] = (module, filename) => {
  if (filename.includes('onnxruntime')) throw new Error(`Cannot find module '${filename}'`);
  return load(module, filename);
};

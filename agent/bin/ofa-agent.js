#!/usr/bin/env node
// The `ofa-agent` program in a checkout; what is installed on a device is the bundle that `npm run pack:agent` makes.
import { fileURLToPath } from 'node:url';
import { launch } from '@ofa-fleet/shared/bin/launch.js';

launch([fileURLToPath(new URL('../node/cli.ts', import.meta.url)), ...process.argv.slice(2)]);

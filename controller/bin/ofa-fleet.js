#!/usr/bin/env node
// The `ofa-fleet` program: starts the command line on a Node that is new enough.
import { fileURLToPath } from 'node:url';
import { launch } from '@ofa-fleet/shared/bin/launch.js';

launch([fileURLToPath(new URL('../cli/main.ts', import.meta.url)), ...process.argv.slice(2)]);

// `sonde detach`: after a collector was killed its programs go on counting for a successor. This removes them.

import { statSync } from 'node:fs';
import { lockPins } from '../collector/pin_lock.ts';
import { Pins } from '../collector/pins.ts';
import type { Call } from './call.ts';
import { configOf } from './options.ts';
import { print } from './output.ts';

export async function run(call: Call): Promise<number> {
  const { pin_path } = configOf('run', call).config.collector;
  statSync(pin_path, { throwIfNoEntry: false }); // throws where this user may not look
  const lock = await lockPins(pin_path); // refuses while a collector runs
  const pins = new Pins(pin_path, '');
  const found = pins.any;
  pins.clear();
  lock.release();
  print(found ? `removed what was pinned in ${pin_path}\n` : `nothing is pinned in ${pin_path}\n`);
  return 0;
}

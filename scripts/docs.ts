// Writes the pages that follow from code. A test holds each against what this would write.

import { writeFileSync } from 'node:fs';
import { configurationPage } from '../src/config/describe.ts';
import { troubleshootingPage } from '../src/doctor/page.ts';
import { metricsPage } from '../src/outlet/page.ts';
import { allMetrics } from './metrics.ts';

/** Path from the project's folder → its text. */
export const pages: ReadonlyMap<string, () => string> = new Map([
  ['docs/configuration.md', configurationPage],
  ['docs/metrics.md', () => metricsPage(allMetrics())],
  ['docs/troubleshooting.md', troubleshootingPage],
]);

if (import.meta.main) {
  for (const [path, text] of pages) {
    writeFileSync(new URL(`../${path}`, import.meta.url), text());
    console.error(`wrote ${path}`);
  }
}

// Every metric that sonde can show, for the reference page and for checks of dashboards and alert rules.

import { tables } from '../probes/index.ts';
import type { MetricsPage } from '../src/outlet/page.ts';
import { PrometheusOutlet } from '../src/outlet/prometheus.ts';
import { tfo_metrics } from '../src/outlet/tfo.ts';
import { TfoOutlet } from '../src/outlet/tfo_series.ts';
import { registerSelf, type SelfParts } from '../src/reducer/self.ts';

export function allMetrics(): MetricsPage {
  const page = new PrometheusOutlet([]);
  // Only the names are asked for, never a value: of the parts none is touched but for their statistics' home.
  registerSelf(page, { server: { stats: {} } } as unknown as SelfParts);
  new TfoOutlet(page, tfo_metrics, []);
  const own = page.heads.filter(({ name }) => !name.startsWith('tfo_'));
  return { tables, tfo: tfo_metrics, own };
}

// The chart's objects under several values, as the tests' own small renderer makes them of its templates.

import { parse } from 'yaml';
import { documentsOf, namesIn, type Tree, textOf } from './files.ts';
import { render } from './helm.ts';

export const CHART = 'helm/sonde';
const defaults: Tree = parse(textOf(`${CHART}/values.yaml`));
export const Release = { Name: 'eyes', Namespace: 'watch' };

export function rendered(values: Tree): readonly Tree[] {
  return namesIn(`${CHART}/templates`, '.yaml')
    .flatMap((name) => {
      const text = render(textOf(`${CHART}/templates/${name}`), {
        Values: { ...defaults, ...values },
        Release,
      });
      return documentsOf(text, name);
    })
    .filter((one) => one !== null);
}

export const CASES: ReadonlyMap<string, Tree> = new Map([
  ['defaults', { token: 'x' }],
  ['a secret of the operator', { existingSecret: 'own', tlsSecret: 'own-tls' }],
  ['privileged', { token: 'x', ebpfRunAsPrivileged: true, environment: 'stage: 1' }],
  ['capture', { token: 'x', ebpfCaptureEnabled: true, daemonSetMirroringEnabled: true }],
  ['the agent alone', { token: 'x', agent: { enabled: true, interval: '15s' } }],
]);

// `sonde reducer`: takes, stores and serves; an ordinary user can run it.

import { join } from 'node:path';
import { tables } from '../../probes/index.ts';
import { configInForce } from '../config/describe.ts';
import { openLog } from '../config/log.ts';
import type { Config } from '../config/schema.ts';
import { Reducer, type ReducerOptions } from '../reducer/reducer.ts';
import { server_limits } from '../wire/server.ts';
import type { Call } from './call.ts';
import { lifetime, tellParent } from './lifetime.ts';
import { configOf } from './options.ts';
import { reloadOnHup } from './reload.ts';

export async function run(call: Call): Promise<number> {
  const { config, warnings } = configOf('reducer', call);
  const log = openLog(config.log, { name: 'reducer' });
  for (const warning of warnings) log.logger.warn(warning);
  log.logger.info({ config: configInForce(config) }, 'the configuration in force');
  const { ended } = lifetime(log.logger, () => undefined);
  let reducer: Reducer | undefined;
  reloadOnHup('reducer', call, config, log, () => reducer?.server.renewTls());
  reducer = await Reducer.start({
    ...reducerOptions(config),
    log: (line) => log.logger.warn(line),
  });
  const { port, metrics_port } = reducer;
  log.logger.info({ port, metrics_port }, 'listening');
  tellParent({ ready: 'reducer', port, metrics_port });
  log.logger.info(`stopping: ${await ended}`);
  await reducer.close();
  return 0;
}

export function reducerOptions({ reducer, data_dir }: Config): ReducerOptions {
  const { store, tls, token, limits } = reducer;
  return {
    listen: reducer.listen,
    metrics: reducer.metrics,
    tables,
    store: storeTarget(store, data_dir),
    retention: {
      raw_s: store.retention / 1000,
      minute_s: store.retention_minute / 1000,
      hour_s: store.retention_hour / 1000,
    },
    allow_plaintext: reducer.allow_plaintext,
    collectors_max: limits.collectors_max,
    limits: {
      connections_max: limits.connections_max,
      message_bytes_max: limits.batch_bytes_max,
      first_bytes_ms: Math.min(limits.handshake_timeout, server_limits.first_bytes_ms),
      first_message_ms: limits.handshake_timeout,
    },
    ...(token !== undefined && { token }),
    ...(tls.cert_path !== undefined &&
      tls.key_path !== undefined && {
        tls: {
          cert: tls.cert_path,
          key: tls.key_path,
          ...(tls.client_ca_path !== undefined && { client_ca: tls.client_ca_path }),
        },
      }),
  };
}

function storeTarget(store: Config['reducer']['store'], data_dir: string): ReducerOptions['store'] {
  if (store.url === undefined) return { dir: store.path ?? join(data_dir, 'store') };
  const { url, user, password, database } = store;
  return { url, username: user, database, ...(password !== undefined && { password }) };
}

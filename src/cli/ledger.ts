// `sonde ledger`: the proof that nothing was lost in silence, or where it was.

import { balance, type LedgerRow } from '../table/ledger.ts';
import { formatTable } from '../table/text.ts';
import { openQuestions } from './asking.ts';
import type { Call } from './call.ts';
import { print } from './output.ts';

const SQL = `SELECT host, stage, \`table\`, outcome, reason, sum(count) AS count
FROM sonde_ledger GROUP BY ALL ORDER BY host, stage, \`table\`, outcome, reason`;

type Row = LedgerRow & { readonly host: string };

/** Exit status 1 when a stage does not balance: something is under way, or was lost without a reason. */
export async function run(call: Call): Promise<number> {
  const questions = await openQuestions(call);
  try {
    const rows = await questions.rows<Row>(SQL);
    const differences = balance(rows).filter(({ difference }) => difference !== 0);
    const lost = rows.filter(({ outcome }) => outcome === 'dropped');
    if (call.options['--json'] === true) {
      print(`${JSON.stringify({ rows, differences, lost }, null, 2)}\n`);
    } else {
      print(`${ledgerTable(rows)}\n${verdict(differences.length, lost)}\n`);
    }
    return differences.length === 0 ? 0 : 1;
  } finally {
    await questions.close();
  }
}

function ledgerTable(rows: readonly Row[]): string {
  const columns = ['host', 'stage', 'table', 'outcome', 'reason', 'count'].map((name) => ({
    name,
  }));
  return formatTable(
    columns,
    rows.map((row) => [row.host, row.stage, row.table, row.outcome, row.reason, row.count]),
  );
}

function verdict(differences: number, lost: readonly Row[]): string {
  const sum = lost.reduce((total, { count }) => total + Number(count), 0);
  if (differences > 0)
    return `${differences} stages do not balance: seen is not kept + folded + sampled + dropped`;
  return sum === 0
    ? 'every stage balances; nothing was lost'
    : `every stage balances; ${sum} lost, for the reasons above`;
}

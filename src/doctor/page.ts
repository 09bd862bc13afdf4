// docs/troubleshooting.md, written from the checks.

import type { Check } from './check.ts';
import { type Section, sections } from './list.ts';

const COLUMNS = 140;

const INTRODUCTION = `# Troubleshooting

Written by \`npm run docs\` from the checks in \`src/doctor\`; change it there.

\`\`\`sh
sonde doctor          # a table: what is well, what is not, why it matters, what to do
sonde doctor --json   # the same for programs
\`\`\`

It takes the flags and variables of \`sonde run\`, looks and changes nothing, except that it loads and attaches the programs for a moment to see
what the kernel says; while a collector runs it asks that one instead. It works without root: what it could not ask it calls \`skip\`. The exit
status is 0 when nothing fails, 1 when a check fails, 2 when the configuration is faulty.

- **ok** all is well. **warn** sonde works, something is worse than it need be. **fail** sonde or a source cannot work. **skip** does not apply
  here, or could not be asked; the finding says which.

The JSON: \`schema\` (1), \`version\`, \`host\`, \`verdict\` (\`ok\`, \`warn\`, \`fail\`), \`counts\` by state, \`checks\`: each with \`id\`,
\`subject\` (a source, a port, or empty), \`what\`, \`state\`, \`found\`, \`why\`, \`cure\` (empty where nothing is to be done). The ids
are those below and do not change.

To see that all works: \`sonde ledger\` proves that nothing was lost, \`curl -s http://localhost:8888/metrics | grep sonde\` shows the page for
Prometheus, \`bpftool prog list\` the programs in the kernel, \`ls /sys/fs/bpf/sonde\` what is pinned, and the log (\`log.file_path\`, or
\`journalctl -u sonde\`) has one line for each source and the configuration in force.
`;

export function troubleshootingPage(): string {
  return `${INTRODUCTION}\n${sections.map(sectionText).join('\n')}`;
}

function sectionText({ title, checks }: Section): string {
  return `## ${title}\n\n${checks.map(checkText).join('\n')}`;
}

function checkText({ id, what, why, cure }: Check): string {
  const body = `**${sentence(what)}** ${sentence(why)}`;
  return `### ${id}\n\n${wrap(body)}\n\n${cureText(cure)}\n`;
}

function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;
}

/** Runs of indented lines become blocks of code, those between them paragraphs. */
function cureText(cure: string): string {
  const blocks: { code: boolean; lines: string[] }[] = [];
  for (const line of cure.split('\n')) {
    const code = line.startsWith('  ');
    if (blocks.at(-1)?.code !== code) blocks.push({ code, lines: [] });
    blocks.at(-1)?.lines.push(line);
  }
  const texts = blocks.map(({ code, lines }) => {
    if (!code) return wrap(lines.join(' '));
    return `\`\`\`sh\n${lines.map((line) => line.slice(2)).join('\n')}\n\`\`\``;
  });
  return texts.join('\n\n');
}

function wrap(text: string): string {
  const lines = [''];
  for (const word of text.split(' ')) {
    const last = lines.at(-1) ?? '';
    if (last !== '' && last.length + 1 + word.length > COLUMNS) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines.join('\n');
}

// As much of helm's templates as the chart uses: values by path, if/else/end, quote, required, toYaml with indent. What it
// does not know it refuses, so that the chart stays as simple as that.

import { stringify } from 'yaml';
import { at } from './files.ts';

export interface Scope {
  readonly Values: unknown;
  readonly Release: { readonly Name: string; readonly Namespace: string };
}

const ACTION = /\{\{(-?)\s*(.*?)\s*(-?)\}\}/gs;

type Part = string | { readonly action: string };

export function render(template: string, scope: Scope): string {
  const parts = partsOf(template);
  const { text, next } = block(parts, 0, scope, true);
  if (next !== parts.length) throw new Error('an end without its if');
  return text;
}

/** Text and actions by turns; a dash takes the white space on its side away. */
function partsOf(template: string): readonly Part[] {
  const parts: Part[] = [];
  let from = 0;
  let trim = false;
  for (const match of template.matchAll(ACTION)) {
    const [whole, left, action = '', right] = match;
    const text = template.slice(from, match.index);
    const cut = left === '-' ? text.trimEnd() : text;
    parts.push(trim ? cut.trimStart() : cut, { action });
    trim = right === '-';
    from = match.index + whole.length;
  }
  const rest = template.slice(from);
  parts.push(trim ? rest.trimStart() : rest);
  return parts;
}

function block(
  parts: readonly Part[],
  start: number,
  scope: Scope,
  shown: boolean,
): { text: string; next: number } {
  let text = '';
  let visible = shown;
  for (let i = start; i < parts.length; i += 1) {
    const part = parts[i]!;
    if (typeof part === 'string') text += visible ? part : '';
    else if (part.action === 'end') return { text, next: i };
    else if (part.action === 'else') visible = shown && !visible;
    else if (part.action.startsWith('if ')) {
      const holds = condition(part.action.slice(3), scope);
      const inner = block(parts, i + 1, scope, visible && holds);
      const other = elseOf(parts, i + 1, scope, visible && !holds);
      text += inner.text + other;
      i = inner.next;
    } else if (visible) text += value(part.action, scope);
  }
  return { text, next: parts.length };
}

/** What stands between else and end; the first half is left out. */
function elseOf(parts: readonly Part[], start: number, scope: Scope, shown: boolean): string {
  if (!shown) return '';
  let depth = 0;
  for (let i = start; i < parts.length; i += 1) {
    const part = parts[i]!;
    if (typeof part === 'string') continue;
    if (part.action.startsWith('if ')) depth += 1;
    else if (part.action === 'end' && depth === 0) return '';
    else if (part.action === 'end') depth -= 1;
    else if (part.action === 'else' && depth === 0) return block(parts, i + 1, scope, true).text;
  }
  return '';
}

function condition(expression: string, scope: Scope): boolean {
  if (expression.startsWith('not ')) return !condition(expression.slice(4), scope);
  const found = lookup(expression, scope);
  return found !== undefined && found !== '' && found !== false && found !== 0;
}

function lookup(path: string, scope: Scope): unknown {
  if (!/^\.(Values|Release)(\.\w+)+$/.test(path)) throw new Error(`not understood: ${path}`);
  const found = at(scope, ...path.slice(1).split('.'));
  if (found === undefined) throw new Error(`${path} has no value in values.yaml`);
  return found;
}

function value(action: string, scope: Scope): string {
  const [first = '', ...pipes] = action.split('|').map((word) => word.trim());
  const needed = /^required "([^"]*)" (\S+)$/.exec(first);
  const as_yaml = /^toYaml (\S+)$/.exec(first);
  let text = '';
  if (as_yaml) text = stringify(lookup(as_yaml[1] ?? '', scope)).trimEnd();
  else text = String(lookup(needed?.[2] ?? first, scope));
  if (needed && text === '') throw new Error(needed[1]);
  for (const pipe of pipes) {
    const indent = /^indent (\d+)$/.exec(pipe)?.[1];
    if (pipe === 'quote') text = JSON.stringify(text);
    else if (indent !== undefined) text = text.replaceAll(/^/gm, ' '.repeat(Number(indent)));
    else throw new Error(`not understood: ${pipe}`);
  }
  return text;
}

// The parts of a multipart body (RFC 2046): between lines that begin with `--` and the boundary, each with a head of its own.

/** With the two dashes: as the type has it, or else as the first such line. */
export function boundaryOf(type: string, text: string): string | undefined {
  const told = /;[ \t]{0,8}boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))/i.exec(type);
  const boundary = told === null ? undefined : `--${told[1] ?? told[2]}`;
  if (boundary !== undefined && text.includes(boundary)) return boundary;
  return /^--[^\r\n]{1,200}/m.exec(text)?.[0];
}

/** What is between two boundaries: the head, and where the content begins. Undefined: it is no part. */
export function headOfPart(part: string): { head: string; from: number } | undefined {
  const blank = /\r?\n\r?\n/.exec(part);
  if (blank === null) return undefined;
  return { head: part.slice(0, blank.index), from: blank.index + blank[0].length };
}

/** Whatever may be its name: `name=x`, `name="x"`, `name*=UTF-8''x`, and pieces (`name*0="x"; name*1="y"`) as one. */
export function partNames(head: string): readonly string[] {
  const names = namesIn(head).map(({ text }) => text);
  return [...names, names.join('')];
}

/** The name of a field of a form. */
export function fieldName(head: string): string {
  const [first, ...more] = namesIn(head);
  if (first === undefined) return '';
  const pieces = more.filter(({ piece }) => first.piece && piece);
  return [first, ...pieces].map(({ text }) => text).join('');
}

function namesIn(head: string): readonly { text: string; piece: boolean }[] {
  const found = head.matchAll(
    /\bname(\*?\d{0,2}\*?)[ \t]{0,8}=[ \t]{0,8}(?:"([^"\r\n]*)|([^";\s]*))/gi,
  );
  return [...found].map(([, star = '', quoted, plain]) => {
    const text = quoted ?? plain ?? '';
    const piece = /\d/.test(star);
    return { text: star === '' ? text : formText(text.slice(text.lastIndexOf("'") + 1)), piece };
  });
}

/** Of a query or a form. */
export function formText(text: string): string {
  if (!/[%+]/.test(text)) return text;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text; // as it stands
  }
}

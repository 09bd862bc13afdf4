// The few ways in which a value becomes part of an SQL text. Everything else in the store goes through these.

/** A string as an SQL literal. ClickHouse reads backslash escapes inside quotes, so both are escaped. */
export function literal(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/** A name of a table or column in backticks. */
export function identifier(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``;
}

export function identifiers(names: readonly string[]): string {
  return names.map(identifier).join(', ');
}

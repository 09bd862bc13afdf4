// Numbers as people read them: three digits and the unit that fits.

import type { Unit } from './definition.ts';

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;
const SECOND_UNITS = ['ns', 'µs', 'ms', 's'] as const;
const NS: Readonly<Record<Exclude<Unit, '1' | 'By'>, number>> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9 };
const [MINUTE_S, HOUR_S, DAY_S] = [60, 3600, 86_400];

/** A value of a column in words: `1.50 KiB`, `12.3 ms`, `2h 05m`; whole numbers without a unit stay whole. */
export function formatValue(value: number, unit: Unit = '1'): string {
  if (Number.isNaN(value)) return '-';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '-∞';
  if (value < 0) return `-${formatValue(-value, unit)}`;
  if (unit === '1') return Number.isInteger(value) ? String(value) : threeDigits(value);
  if (unit === 'By') return scaled(value, 1024, BYTE_UNITS);
  const ns = value * NS[unit];
  return ns < MINUTE_S * 1e9 ? scaled(ns, 1000, SECOND_UNITS) : longTime(ns / 1e9);
}

function scaled(value: number, step: number, units: readonly string[]): string {
  let rest = value;
  let at = 0;
  // What rounds to a full step is the next unit's 1: not "1024 KiB", not "1000 ms".
  while (at < units.length - 1 && Math.round(rest) >= step) {
    rest /= step;
    at += 1;
  }
  const text = at === 0 && Number.isInteger(rest) ? String(rest) : threeDigits(rest);
  return `${text} ${units[at]}`;
}

function threeDigits(value: number): string {
  if (value === 0) return '0';
  if (value < 9.995) return value < 0.01 ? value.toExponential(1) : value.toFixed(2);
  return value.toFixed(value < 99.95 ? 1 : 0);
}

function longTime(seconds: number): string {
  const whole = Math.floor(seconds);
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  if (whole < HOUR_S) return `${Math.floor(whole / MINUTE_S)}m ${two(whole % MINUTE_S)}s`;
  if (whole < DAY_S) return `${Math.floor(whole / HOUR_S)}h ${two((whole % HOUR_S) / MINUTE_S)}m`;
  return `${Math.floor(whole / DAY_S)}d ${two((whole % DAY_S) / HOUR_S)}h`;
}

// What a value is, by its form: for the catalogue of APIs. Values themselves go nowhere, only their kinds.

export type ValueKind =
  | 'integer'
  | 'number'
  | 'boolean'
  | 'null'
  | 'uuid'
  | 'email'
  | 'date'
  | 'string'
  | 'array'
  | 'object';

/** Kinds of personal data that a value, or a parameter's name, hints at. */
export type Personal = '' | 'email' | 'phone' | 'card' | 'ip' | 'name' | 'address' | 'birth' | 'id';

const LOOK_MAX = 256;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const EMAIL = /^[^@\s]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,8}$/i;
const DATE = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?.{0,12})?$/;
const PHONE = /^\+\d[\d ()/.-]{6,18}$/;
const IPV4 = /^(?:\d{1,3}\.){3}\d{1,3}$/;

/** Of a text, as it stands in a query, a form or a path. */
export function kindOfText(text: string): ValueKind {
  if (text.length > LOOK_MAX) return 'string';
  if (/^[+-]?\d{1,18}$/.test(text)) return 'integer';
  if (/^[+-]?\d{1,18}\.\d{1,18}(?:e[+-]?\d{1,3})?$/i.test(text)) return 'number';
  if (text === 'true' || text === 'false') return 'boolean';
  return kindOfString(text);
}

/** Of a text that is known to be one. */
export function kindOfString(text: string): ValueKind {
  if (text.length > LOOK_MAX) return 'string';
  if (UUID.test(text)) return 'uuid';
  if (EMAIL.test(text)) return 'email';
  return DATE.test(text) ? 'date' : 'string';
}

export function kindOfJson(value: unknown): ValueKind {
  if (value === null) return 'null';
  if (typeof value === 'string') return kindOfString(value);
  if (typeof value === 'boolean') return 'boolean';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return Array.isArray(value) ? 'array' : 'object';
}

/** By the last word of the name: `billing_address`, `phoneNumber`, `user.birthDate`. */
const NAMES: readonly (readonly [RegExp, Personal])[] = [
  [/e-?mail/, 'email'],
  [/phone|mobile|msisdn/, 'phone'],
  [/card_?(?:number|no)|^pan$|credit_?card/, 'card'],
  [/(?:first|last|full|sur|given|family|user)_?name/, 'name'],
  [/birth|^dob$/, 'birth'],
  [/street|address|post_?code|^zip/, 'address'],
  [/^ssn$|passport|tax_?id|national_?id/, 'id'],
];

export function personalOf(name: string, value: string): Personal {
  const low = name.toLowerCase();
  if (value.length <= LOOK_MAX) {
    if (EMAIL.test(value)) return 'email';
    if (PHONE.test(value)) return 'phone';
    if (IPV4.test(value)) return 'ip';
    if (isCardNumber(value)) return 'card';
  }
  return NAMES.find(([pattern]) => pattern.test(low))?.[1] ?? '';
}

/** 13 to 19 digits, perhaps in groups, whose check digit is right (Luhn). */
export function isCardNumber(text: string): boolean {
  if (!/^\d(?:[ -]?\d){12,18}$/.test(text)) return false;
  const digits = text.replace(/\D/g, '');
  let sum = 0;
  for (let i = 0; i < digits.length; i += 1) {
    let digit = digits.charCodeAt(digits.length - 1 - i) - 0x30;
    if (i % 2 === 1) digit = digit > 4 ? digit * 2 - 9 : digit * 2;
    sum += digit;
  }
  return sum % 10 === 0;
}

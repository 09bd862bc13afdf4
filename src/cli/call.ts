// What a command is: a function that gets the words of the command line, and gives the exit status.

/** The words of the command line, and what the command file's function gets. */
export interface Call {
  readonly version: string;
  readonly args: readonly string[];
  /** By the flag's long name. */
  readonly options: Readonly<Record<string, string | boolean | undefined>>;
}

export type Run = (call: Call) => Promise<number>;

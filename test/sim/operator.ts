/**
 * Operators as part of the weather: a run may have one or two who change the federation while it works and breaks. The product's own operations go in here
 * as it learns them; what can be done to a federation behind the product's back (a lost disk, an old copy, a clone) are faults (faults.ts).
 */
import type { SimNode } from "./federation.ts";
import type { Fault } from "./schedule.ts";

export interface Operator {
  /**
   * Does one thing, through one node, as a person at a console would: it may be refused, and it may be under way when the next one begins.
   * All chance comes from the fault: the same fault is the same action.
   */
  act(fault: Fault, through: SimNode): void;
  /** Told when faults end: whatever is half done must come to its end by itself from here. @returns whether nothing is under way */
  readonly idle: boolean;
}

/** What the memory may be told (API.md, configuration names). Everything else in this folder is measured, not configured. */
export interface MemorySettings {
  /** MAX_CONCEPTS_PER_MESSAGE: the most salient are kept. */
  readonly maxConcepts: number;
  /** MIN_CONCEPT_LENGTH and MAX_CONCEPT_LENGTH: characters of a name; a character of an unspaced script counts as two. */
  readonly minLength: number;
  readonly maxLength: number;
  /** WORKING_MEMORY_CAPACITY: only so many concepts of a turn are linked with each other. */
  readonly capacity: number;
  /** MIN_LINK_STRENGTH: a weaker link is not recalled. In [0, 1]. */
  readonly minStrength: number;
}

export const DEFAULT_SETTINGS: MemorySettings = { maxConcepts: 20, minLength: 3, maxLength: 100, capacity: 7, minStrength: 0.1 };

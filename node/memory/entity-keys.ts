/**
 * The names under which a document is a node of the entity graph: its concepts, their parts, and the forms in which its title is mentioned elsewhere.
 * "University of Copenhagen" is also "copenhagen", "Hello (Adele song)" also "hello", "Johnnycake, West Virginia" also "johnnycake".
 */
import type { Document } from "./document.ts";
import { fold, isStopWord } from "./text.ts";

export interface EntityKey {
  readonly key: string;
  /** A form of the document's own entity. */
  readonly title: boolean;
}

const PARTS = / (?:of|and|in|de|&)(?: the)? /;
const PART_MIN_CHARS = 3;

export function entityKeys(document: Pick<Document, "entity" | "concepts">): EntityKey[] {
  const keys = new Map<string, boolean>();
  if (document.entity !== "") for (const form of titleForms(document.entity)) keys.set(form, true);
  for (const concept of document.concepts) for (const form of conceptForms(concept)) if (!keys.has(form)) keys.set(form, false);
  return [...keys].map(([key, title]) => ({ key, title }));
}

export function conceptForms(id: string): string[] {
  if (!PARTS.test(id)) return [id];
  return [id, ...id.split(PARTS).map(withoutThe).filter(isUsable)];
}

function titleForms(entity: string): string[] {
  const bare = /[([]/.test(entity) ? fold(entity.replace(/[([][^()[\]]*[)\]]/g, " ")) : entity;
  const beforeComma = bare.includes(",") ? fold(bare.slice(0, bare.indexOf(","))) : bare;
  return [...new Set([entity, bare, beforeComma, withoutThe(bare)])].filter((form) => form === entity || isUsable(form));
}

function withoutThe(name: string): string {
  return name.startsWith("the ") ? name.slice(4) : name;
}

function isUsable(part: string): boolean {
  return part.length >= PART_MIN_CHARS && !isStopWord(part);
}

/**
 * A node's program as it was before: `--import`ed by Node before it, and told by the environment which versions of the federation protocol the program knows,
 * it puts these in the place of those in protocol/version.ts as that file is loaded. All else is the program of today, which speaks the older version as it
 * must in a rolling upgrade. The product has no flag for this and does not know.
 */
import { registerHooks } from "node:module";
import { pathToFileURL } from "node:url";

/** Environment variable: "1..1". Empty: as the program is. */
export const VERSIONS = "FAULTS_PROTOCOL_VERSIONS";
export const VERSIONS_PRELOAD = ["--import", pathToFileURL(import.meta.filename).href] as const;

const told = /^(\d+)\.\.(\d+)$/.exec(process.env[VERSIONS] ?? "");
if (told !== null) replaceVersions(told[1]!, told[2]!);

function replaceVersions(min: string, max: string): void {
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      if (!url.endsWith("/protocol/version.ts")) return loaded;
      const source = String(loaded.source)
        .replace(/PROTOCOL_VERSION = \d+/, `PROTOCOL_VERSION = ${max}`)
        .replace(/PROTOCOL_VERSION_MIN = \d+/, `PROTOCOL_VERSION_MIN = ${min}`);
      return { ...loaded, source };
    },
  });
}

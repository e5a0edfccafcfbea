import { defineConfig } from "vitest/config";

/** Used as `vitest run --root . --config test/vitest.config.ts [folders]`; the top level of the project is fixed, so it lies here. */
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Far above what any test needs by itself: it ends what hangs, on a machine that does ten things at once too.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // A test without an expectation proves nothing.
    expect: { requireAssertions: true },
    sequence: { hooks: "stack" },
  },
});

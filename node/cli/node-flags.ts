/**
 * How Node is started for a node of the federation. A write leaves some 100 KB of short-lived objects: a larger young generation collects them a quarter as
 * often; collecting on the main thread alone leaves the other cores to the other nodes on the machine.
 */
export const NODE_FLAGS = ["--max-semi-space-size=32", "--single-threaded-gc"] as const;

/**
 * One OrbitDB peer for `npm run bench -- --converge`, as its documentation sets one up: helia on LevelDB, libp2p over TCP with gossipsub, an event log that all may
 * write. The bench copies this file into the folder it has installed OrbitDB in; the project itself does not depend on it.
 *
 * Its parent says, one after the other: `{dial}` addresses, `{open}` name or address of the log, `{write}` entries, `{heads}`, `{size}`. Each is answered with
 * `{done}` or `{failed}`.
 */
import { gossipsub } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { createOrbitDB, IPFSAccessController } from "@orbitdb/core";
import { LevelBlockstore } from "blockstore-level";
import { createHelia } from "helia";
import { createLibp2p } from "libp2p";

const libp2p = await createLibp2p({
  addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionManager: { inboundConnectionThreshold: 100 },
  services: { identify: identify(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true }) },
});
const ipfs = await createHelia({ libp2p, blockstore: new LevelBlockstore("./blocks") });
const orbitdb = await createOrbitDB({ ipfs, directory: "./orbitdb" });
let db;

const orders = {
  async dial(addresses) {
    for (const address of addresses) await libp2p.dial(multiaddr(address));
  },
  async open(name) {
    db = await orbitdb.open(name, { type: "events", AccessController: IPFSAccessController({ write: ["*"] }) });
    return db.address.toString();
  },
  /** One after the other, as `add` wants it: each entry names the one before. */
  async write(entries) {
    for (const entry of entries) await db.add(entry);
  },
  /** Equal heads, equal logs: an entry becomes a head only once everything it names has been joined. */
  async heads() {
    return (await db.log.heads()).map(({ hash }) => hash).sort();
  },
  /** A walk over the whole log. */
  async size() {
    let count = 0;
    for await (const _ of db.log.iterator()) count++;
    return count;
  },
};

process.on("message", (order) => {
  const [[name, argument]] = Object.entries(order);
  orders[name](argument).then(
    (done) => process.send?.({ done: done ?? null }),
    (error) => process.send?.({ failed: String(error?.stack ?? error) }),
  );
});
process.on("disconnect", () => process.exit(0));
process.send?.({ done: libp2p.getMultiaddrs().map(String) });

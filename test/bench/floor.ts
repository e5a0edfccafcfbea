/**
 * The bare floor: what three nodes of this kind cost without any memory. One process: HTTP (fastify) -> seal -> one LevelDB batch with fsync for
 * what arrived together -> framed over raw TCP to two peers -> their fsync -> answered when two of three hold it. In the node's own order (durable
 * here before it is sent), with the node's own crypto and LevelDB settings; no graph, no libp2p, no repair, no retry.
 * Argument: JSON of FloorSettings. Says "ready" to its parent when both peers are connected.
 */
import { randomBytes } from "node:crypto";
import { connect, createServer, type Socket } from "node:net";
import Fastify from "fastify";
import { createKeyring } from "../../crypto/keyring.ts";
import { NONCE_BYTES, sealWith } from "../../crypto/seal.ts";
import { openLevel } from "../../node/store/level.ts";

export interface FloorSettings {
  readonly httpPort: number;
  readonly peerPort: number;
  readonly peerPorts: readonly number[];
  readonly dataDir: string;
  readonly secret: string;
}

/** Length of what follows and a number, both 32 bits, before the bytes; an acknowledgement is the number alone. */
const HEADER_BYTES = 8;
const NUMBER_BYTES = 4;

const settings = JSON.parse(process.argv[2]!) as FloorSettings;
const keyring = createKeyring([settings.secret]);
const db = await openLevel(settings.dataDir);

/** What arrives while one fsync runs shares the next; receipts come in the order of `add`. */
class GroupCommit {
  #waiting: { key: string; value: Uint8Array; durable: () => void }[] = [];
  #running = false;

  add(key: string, value: Uint8Array, durable: () => void): void {
    this.#waiting.push({ key, value, durable });
    if (this.#running) return;
    this.#running = true;
    queueMicrotask(() => void this.#run());
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      await db.batch(
        group.map(({ key, value }) => ({ type: "put" as const, key, value })),
        { sync: true },
      );
      for (const { durable } of group) durable();
    }
    this.#running = false;
  }
}

/** Bytes of one tick leave together. */
class Out {
  readonly #socket: Socket;
  #parts: Uint8Array[] = [];

  constructor(socket: Socket) {
    this.#socket = socket.setNoDelay(true);
  }

  write(...parts: Uint8Array[]): void {
    if (this.#parts.length === 0) setImmediate(() => this.#leave());
    this.#parts.push(...parts);
  }

  #leave(): void {
    this.#socket.write(Buffer.concat(this.#parts));
    this.#parts = [];
  }
}

const commit = new GroupCommit();
const answers = new Map<number, () => void>();
let lastNumber = 0;

// ---- as a peer: keep what comes, then say how far --------------------------------------------------------------------

const listener = createServer((socket) => {
  const out = new Out(socket);
  const from = socket.remotePort;
  let rest: Buffer = Buffer.alloc(0);
  let acknowledged = 0;
  let saying = false;
  socket.on("error", () => socket.destroy());
  socket.on("data", (piece: Buffer) => {
    rest = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    while (rest.length >= HEADER_BYTES && rest.length >= HEADER_BYTES + rest.readUInt32BE(0)) {
      const end = HEADER_BYTES + rest.readUInt32BE(0);
      const number = rest.readUInt32BE(4);
      commit.add(`${from}/${number}`, Uint8Array.prototype.slice.call(rest, HEADER_BYTES, end), () => {
        acknowledged = number;
        if (saying) return;
        saying = true;
        // One for all that shared the fsync.
        queueMicrotask(() => {
          saying = false;
          out.write(numberBytes(acknowledged));
        });
      });
      rest = rest.subarray(end);
    }
  });
});
listener.listen(settings.peerPort, "127.0.0.1");

// ---- as the writer ---------------------------------------------------------------------------------------------------

const peers = await Promise.all(settings.peerPorts.map(connectTo));

async function connectTo(port: number): Promise<Out> {
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const connected = await new Promise<boolean>((done) => {
      socket.once("connect", () => done(true));
      socket.once("error", () => done(false));
    });
    if (connected) {
      socket.on("error", () => socket.destroy());
      let rest: Buffer = Buffer.alloc(0);
      let heard = 0;
      socket.on("data", (piece: Buffer) => {
        rest = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
        for (; rest.length >= NUMBER_BYTES; rest = rest.subarray(NUMBER_BYTES)) {
          const upTo = rest.readUInt32BE(0);
          // The first of the two peers makes it two of three; the second finds nobody waiting.
          for (let number = heard + 1; number <= upTo; number++) {
            answers.get(number)?.();
            answers.delete(number);
          }
          heard = upTo;
        }
      });
      return new Out(socket);
    }
    await new Promise((done) => setTimeout(done, 50));
  }
}

const http = Fastify({ logger: false });
http.post(
  "/put",
  {
    schema: {
      body: { type: "object", required: ["entity", "content"], properties: { entity: { type: "string" }, content: { type: "string" } } },
      response: { 200: { type: "object", properties: { id: { type: "integer" } } } },
    },
  },
  (request) => {
    const number = ++lastNumber;
    const plain = Buffer.from(JSON.stringify(request.body));
    const sealed = sealWith(keyring, "delta", randomBytes(NONCE_BYTES), plain, numberBytes(number));
    return new Promise((done) => {
      answers.set(number, () => done({ id: number }));
      commit.add(`own/${number}`, sealed, () => {
        const header = Buffer.alloc(HEADER_BYTES);
        header.writeUInt32BE(sealed.length, 0);
        header.writeUInt32BE(number, 4);
        for (const peer of peers) peer.write(header, sealed);
      });
    });
  },
);
await http.listen({ host: "127.0.0.1", port: settings.httpPort });
process.send?.("ready");
process.on("disconnect", () => process.exit(0));

function numberBytes(number: number): Uint8Array {
  const bytes = Buffer.alloc(NUMBER_BYTES);
  bytes.writeUInt32BE(number, 0);
  return bytes;
}

/** A real TCP proxy that plays an ingress or a bad line: it passes bytes on, slowly if told to, or nothing at all. */
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";

export interface TcpProxyOptions {
  /** Where connections go. */
  readonly target: () => number;
  /** What accepts callers; plain TCP unless a test terminates TLS. */
  readonly listen?: (onSocket: (socket: Duplex) => void) => Server;
}

export class TcpProxy {
  readonly #server: Server;
  readonly #target: () => number;
  readonly #open = new Set<Duplex>();
  /** Connections that have come through since the start. */
  accepted = 0;
  /** Bytes a second towards the target and back from it; what is above waits with the sender. */
  towards = Number.POSITIVE_INFINITY;
  back = Number.POSITIVE_INFINITY;
  #isCut = false;

  private constructor({ target, listen = createServer }: TcpProxyOptions) {
    this.#target = target;
    this.#server = listen((caller) => this.#pass(caller));
  }

  static async start(options: TcpProxyOptions): Promise<TcpProxy> {
    const proxy = new TcpProxy(options);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  get openConnections(): number {
    return this.#open.size;
  }

  /** Ends what goes through it and lets nobody in until `heal`. */
  cut(): void {
    this.#isCut = true;
    for (const socket of this.#open) socket.destroy();
  }

  heal(): void {
    this.#isCut = false;
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #pass(caller: Duplex): void {
    if (this.#isCut) return void caller.destroy();
    this.accepted += 1;
    const target = connect(this.#target(), "127.0.0.1");
    this.#open.add(caller);
    const end = () => {
      this.#open.delete(caller);
      caller.destroy();
      target.destroy();
    };
    for (const socket of [caller, target]) socket.on("close", end).on("error", end);
    this.#pump(caller, target, () => this.towards);
    this.#pump(target, caller, () => this.back);
  }

  #pump(from: Duplex | Socket, to: Duplex | Socket, rate: () => number): void {
    from.on("data", async (chunk: Buffer) => {
      from.pause();
      for (let at = 0; at < chunk.length && !to.destroyed; ) {
        const bytesASecond = rate();
        // A slow line gives a piece each 100 ms, a byte each second at the slowest.
        const piece = bytesASecond === Number.POSITIVE_INFINITY ? chunk.length - at : Math.max(1, Math.floor(bytesASecond / 10));
        if (!to.write(chunk.subarray(at, at + piece))) await new Promise((resolve) => to.once("drain", resolve).once("close", resolve));
        at += piece;
        if (bytesASecond !== Number.POSITIVE_INFINITY) await new Promise((resolve) => setTimeout(resolve, (1000 * piece) / bytesASecond));
      }
      from.resume();
    });
  }
}

/**
 * What stands in front of a cluster: an HTTP reverse proxy with one address, which passes on requests for a WebSocket by their path, and nothing else. It can
 * be cut off from some callers, as the line between them is: then nothing of theirs arrives any more, in neither direction, and no end is told.
 */
import { createServer, type IncomingMessage, type Server } from "node:http";
import { connect, type Socket } from "node:net";

export interface Backend {
  readonly host: string;
  readonly port: number;
}
export interface IngressOptions {
  /** Address to listen on. Default 127.0.0.1. */
  readonly host?: string;
  /** Address it dials its cluster from. Default: what the kernel takes. */
  readonly from?: string;
  /** Undefined: 404. */
  readonly route: (path: string) => Backend | undefined;
}

export class Ingress {
  /** WebSockets that were passed on, by path. */
  readonly passed = new Map<string, number>();
  /** What was no request for a WebSocket, or led nowhere. */
  refused = 0;
  readonly #options: IngressOptions;
  readonly #server: Server;
  /** Callers and what they were given, with the caller's address. */
  readonly #sockets = new Map<Socket, string>();
  /** How addresses begin from which nothing arrives. */
  #cut: string | undefined;
  /** Run when the line is whole again. */
  #waiting: (() => void)[] = [];

  private constructor(options: IngressOptions) {
    this.#options = options;
    this.#server = createServer((_request, response) => {
      this.refused++;
      response.writeHead(404).end();
    });
    this.#server.on("clientError", (_error, socket) => {
      this.refused++;
      socket.destroy();
    });
    this.#server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
      const caller = socket.remoteAddress ?? "";
      this.#keep(socket, caller);
      this.#whole(caller, () => this.#pass(request, socket, head, caller));
    });
  }

  static async start(options: IngressOptions): Promise<Ingress> {
    const ingress = new Ingress(options);
    await new Promise<void>((done, failed) => ingress.#server.once("error", failed).listen(0, options.host ?? "127.0.0.1", done));
    return ingress;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** @param from how the addresses of those begin who are cut off */
  cut(from: string): void {
    this.#cut = from;
    for (const [socket, caller] of this.#sockets) if (this.#isCut(caller)) socket.pause();
  }

  heal(): void {
    this.#cut = undefined;
    for (const socket of this.#sockets.keys()) socket.resume();
    for (const run of this.#waiting.splice(0)) run();
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets.keys()) socket.destroy();
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  #isCut(caller: string): boolean {
    return this.#cut !== undefined && caller.startsWith(this.#cut);
  }

  #whole(caller: string, run: () => void): void {
    if (this.#isCut(caller)) this.#waiting.push(run);
    else run();
  }

  #keep(socket: Socket, caller: string): void {
    this.#sockets.set(socket, caller);
    socket.once("close", () => this.#sockets.delete(socket)).on("error", () => undefined);
  }

  #pass(request: IncomingMessage, socket: Socket, head: Buffer, caller: string): void {
    if (socket.destroyed) return;
    const path = request.url ?? "/";
    const backend = this.#options.route(path);
    if (backend === undefined || request.headers.upgrade?.toLowerCase() !== "websocket") {
      this.refused++;
      socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n");
      return;
    }
    this.passed.set(path, (this.passed.get(path) ?? 0) + 1);
    const { from } = this.#options;
    const target = connect({ ...backend, ...(from === undefined ? {} : { localAddress: from }) });
    this.#keep(target, caller);
    const headers = request.rawHeaders.flatMap((name, at, all) => (at % 2 === 0 ? [`${name}: ${all[at + 1]}`] : []));
    target.write(`${request.method} ${path} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`);
    target.write(head);
    for (const [one, other] of [
      [socket, target],
      [target, socket],
    ] as const) {
      one.on("data", (bytes: Buffer) => {
        if (!other.write(bytes)) one.pause();
      });
      other.on("drain", () => {
        if (!this.#isCut(caller)) one.resume();
      });
      one.once("end", () => other.end());
      one.once("close", () => this.#whole(caller, () => other.destroy()));
    }
  }
}

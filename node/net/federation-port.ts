/**
 * One port, three languages: libp2p over TCP, libp2p over WebSocket (what an ingress passes on), and plain HTTP for probes (`GET /health`,
 * `GET /ready`). A connection that begins as libp2p does goes to libp2p's own listener, one that begins with "GET " or "HEAD" to HTTP, and from there
 * to libp2p again if it asks for a WebSocket; all in the same process and without a second hop, so remote addresses stay true. Any other is closed.
 */
import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type Socket, Server as TcpServer } from "node:net";
import type { Listener, Transport } from "@libp2p/interface";
import { tcp } from "@libp2p/tcp";
import { DOOR_SOCKETS_MAX } from "../../protocol/limits.ts";
import type { Meter, System } from "../ports.ts";
import { WebSocketDoor } from "./websocket.ts";

export type HealthPath = "/health" | "/ready";
export type HealthAnswer = (path: HealthPath) => { readonly status: number; readonly body: object };

export interface FederationPortOptions {
  readonly health: HealthAnswer;
  /** Sees every inbound socket, so that a stop can end them. */
  readonly sockets: Set<Socket>;
  readonly meter: Meter;
  readonly system: System;
}

/** A connection must have said what it speaks, and a request must have come whole and been answered, in this time. */
const AT_THE_DOOR_MS = 5_000;
const SNIFF_BYTES = 4;
/** Every libp2p connection begins with "/multistream/1.0.0\n" after its length, 19. */
const LIBP2P_FIRST_BYTE = 19;

type TcpComponents = Parameters<ReturnType<typeof tcp>>[0];

/** libp2p's TCP transport, whose listeners also answer probes and take WebSockets. */
export function federationPort(options: FederationPortOptions): (components: TcpComponents) => Transport {
  return (components) => {
    const transport = tcp()(components);
    const createListener = transport.createListener.bind(transport);
    transport.createListener = (listening) => {
      const webSockets = new WebSocketDoor(listening.upgrader, components);
      return divide(createListener(listening), webSockets, options);
    };
    return transport;
  };
}

/** Puts the sniff in front of the listener's own connection handler. */
function divide(listener: Listener, webSockets: WebSocketDoor, { health, sockets, meter, system }: FederationPortOptions): Listener {
  const { server } = listener as unknown as { server: unknown };
  if (!(server instanceof TcpServer)) throw new Error("@libp2p/tcp no longer keeps its net.Server in `server`: adapt node/net/federation-port.ts");
  const [toLibp2p] = server.listeners("connection") as ((socket: Socket) => void)[];
  if (toLibp2p === undefined) throw new Error("@libp2p/tcp has no connection handler yet: adapt node/net/federation-port.ts");
  const door = new Door(meter, system);
  const http = httpServer(health, webSockets, door);
  server.removeAllListeners("connection");
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    door.wait(socket);
    sniff(socket, (first) => {
      if (looksLikeHttp(first)) return void http.emit("connection", socket); // it waits on, for its answer
      door.leave(socket);
      // The listener throws at a socket that comes while it stops, and nobody could catch that.
      if (first[0] === LIBP2P_FIRST_BYTE && server.listening) toLibp2p(socket);
      else socket.destroy();
    });
  });
  closeAlso(listener, () => {
    webSockets.close();
    for (const socket of sockets) socket.destroy();
  });
  return listener;
}

/** libp2p waits for all sockets of the server and knows of its own only. */
function closeAlso(listener: Listener, before: () => void): void {
  const close = listener.close.bind(listener);
  listener.close = () => {
    const closed = close();
    before();
    return closed;
  };
}

/** Sockets that belong to nobody yet. Each has its time, and together they are bounded. */
class Door {
  readonly #meter: Meter;
  readonly #system: System;
  /** In the order of arrival. */
  readonly #waiting = new Map<Socket, () => void>();

  constructor(meter: Meter, system: System) {
    this.#meter = meter;
    this.#system = system;
  }

  wait(socket: Socket): void {
    socket.once("close", () => this.leave(socket));
    const cancel = this.#system.after(AT_THE_DOOR_MS, () => socket.destroy());
    this.#waiting.set(socket, cancel);
    if (this.#waiting.size <= DOOR_SOCKETS_MAX) return;
    this.#meter.count("connection_error", 1, "too_many_waiting");
    const [oldest] = this.#waiting.keys();
    this.leave(oldest!);
    oldest!.destroy();
  }

  leave(socket: Socket): void {
    this.#waiting.get(socket)?.();
    this.#waiting.delete(socket);
  }
}

function sniff(socket: Socket, decided: (first: Buffer) => void): void {
  const hangUp = () => socket.destroy();
  socket.on("error", hangUp);
  let first: Buffer = Buffer.alloc(0);
  const look = () => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    first = Buffer.concat([first, chunk]);
    if (first.length < SNIFF_BYTES && looksLikeHttp(first)) return;
    // Given back only once decided: unshift makes the socket readable again at once, for ever while too little has come.
    socket.unshift(first);
    socket.off("readable", look);
    decided(first);
    socket.off("error", hangUp);
  };
  socket.on("readable", look);
}

/** Also true of a beginning of "GET " or "HEAD": then more bytes are waited for. */
function looksLikeHttp(first: Buffer): boolean {
  const start = first.toString("latin1", 0, SNIFF_BYTES);
  return "GET ".startsWith(start) || "HEAD".startsWith(start);
}

function httpServer(health: HealthAnswer, webSockets: WebSocketDoor, door: Door): HttpServer {
  // Time limits are the door's: a server that never listens does not look after its own.
  const server = createServer({ shouldUpgradeCallback: isWebSocketRequest }, (request, response) => respond(health, request, response));
  server.on("upgrade", (request, socket, head) => {
    door.leave(request.socket);
    webSockets.enter(request, socket, head);
  });
  return server;
}

/** Some clients ask for HTTP/2 with every request; they get an ordinary answer. */
function isWebSocketRequest(request: IncomingMessage): boolean {
  return request.headers.upgrade?.toLowerCase() === "websocket";
}

function respond(health: HealthAnswer, request: IncomingMessage, response: ServerResponse): void {
  const path = request.url?.split("?", 1)[0];
  const { status, body } =
    path === "/health" || path === "/ready"
      ? health(path)
      : { status: 404, body: { detail: "This port answers /health and /ready; the API is on another port." } };
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store", connection: "close" });
  response.end(request.method === "HEAD" ? undefined : JSON.stringify(body));
}

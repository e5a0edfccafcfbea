/**
 * One port, two languages: libp2p, and plain HTTP for probes (`GET /health`, `GET /ready`). A connection that begins with "GET " or "HEAD"
 * goes to HTTP, one that begins as libp2p does to libp2p's own listener, in the same process and without a second hop, so remote addresses stay
 * true; any other is closed.
 */
import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type Socket, Server as TcpServer } from "node:net";
import type { Listener, Transport } from "@libp2p/interface";
import { tcp } from "@libp2p/tcp";

export type HealthPath = "/health" | "/ready";
export type HealthAnswer = (path: HealthPath) => { readonly status: number; readonly body: object };

/** A connection that says nothing for so long is closed. */
const FIRST_BYTES_MS = 5_000;
const SNIFF_BYTES = 4;
/** Every libp2p connection begins with "/multistream/1.0.0\n" after its length, 19. */
const LIBP2P_FIRST_BYTE = 19;

type TcpComponents = Parameters<ReturnType<typeof tcp>>[0];

/** libp2p's TCP transport, whose listeners also answer probes. `sockets` sees every inbound socket, so that a stop can end them. */
export function tcpWithHealth(answer: HealthAnswer, sockets: Set<Socket>): (components: TcpComponents) => Transport {
  return (components) => {
    const transport = tcp()(components);
    const createListener = transport.createListener.bind(transport);
    transport.createListener = (options) => divide(createListener(options), healthServer(answer), sockets);
    return transport;
  };
}

/** Puts the sniff in front of the listener's own connection handler. */
function divide(listener: Listener, http: HttpServer, sockets: Set<Socket>): Listener {
  const { server } = listener as unknown as { server: unknown };
  if (!(server instanceof TcpServer)) throw new Error("@libp2p/tcp no longer keeps its net.Server in `server`: adapt node/net/health-port.ts");
  const [toLibp2p] = server.listeners("connection") as ((socket: Socket) => void)[];
  if (toLibp2p === undefined) throw new Error("@libp2p/tcp has no connection handler yet: adapt node/net/health-port.ts");
  server.removeAllListeners("connection");
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    sniff(socket, (first) => {
      if (looksLikeHttp(first)) http.emit("connection", socket);
      // The listener throws at a socket that comes while it stops, and nobody could catch that.
      else if (first[0] === LIBP2P_FIRST_BYTE && server.listening) toLibp2p(socket);
      else socket.destroy();
    });
  });
  return listener;
}

function sniff(socket: Socket, decided: (first: Buffer) => void): void {
  const hangUp = () => socket.destroy();
  socket.on("error", hangUp);
  socket.on("timeout", hangUp);
  socket.setTimeout(FIRST_BYTES_MS);
  let first: Buffer = Buffer.alloc(0);
  const look = () => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    first = Buffer.concat([first, chunk]);
    if (first.length < SNIFF_BYTES && looksLikeHttp(first)) return;
    // Given back only once decided: unshift makes the socket readable again at once, for ever while too little has come.
    socket.unshift(first);
    socket.setTimeout(0);
    socket.off("timeout", hangUp);
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

function healthServer(answer: HealthAnswer): HttpServer {
  const server = createServer((request, response) => respond(answer, request, response));
  server.headersTimeout = FIRST_BYTES_MS;
  server.requestTimeout = FIRST_BYTES_MS;
  return server;
}

function respond(answer: HealthAnswer, request: IncomingMessage, response: ServerResponse): void {
  const path = request.url?.split("?", 1)[0];
  const { status, body } =
    path === "/health" || path === "/ready"
      ? answer(path)
      : { status: 404, body: { detail: "This port answers /health and /ready; the API is on another port." } };
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store", connection: "close" });
  response.end(request.method === "HEAD" ? undefined : JSON.stringify(body));
}

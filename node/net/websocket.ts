/**
 * libp2p over WebSocket, for peers behind an ingress, which passes on nothing but HTTP. A connection's bytes travel in binary messages, as in
 * @libp2p/websockets. That package (10.1.21) is not used: its abort leaves the socket open at both ends (neither WebSocket takes close code 1006), it
 * cannot hold back a sender, and a stranger may make it keep messages of 100 MB.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import {
  type ComponentLogger,
  type Connection,
  type MessageStreamDirection,
  type Transport,
  transportSymbol,
  type Upgrader,
} from "@libp2p/interface";
import { AbstractMultiaddrConnection, ipPortToMultiaddr, type SendResult } from "@libp2p/utils";
import type { Multiaddr } from "@multiformats/multiaddr";
import { type ClientOptions, WebSocket, WebSocketServer } from "ws";
import { WEBSOCKET_MESSAGE_MAX_BYTES } from "../../protocol/limits.ts";
import { isWebSocket, webSocketTarget } from "./addresses.ts";
import { NetError } from "./errors.ts";

/** One message sent; what noise makes of a frame is cut into such pieces. */
const MESSAGE_BYTES = 64 * 1024;
/** Beyond it the layers above are told to wait for the socket. */
const BUFFERED_BYTES = 256 * 1024;
/** After a close a peer has this long to answer it. */
const CLOSE_MS = 1_000;

const BOUNDS = { maxPayload: WEBSOCKET_MESSAGE_MAX_BYTES, perMessageDeflate: false, closeTimeout: CLOSE_MS } as const;

interface Components {
  readonly logger: ComponentLogger;
}

/** One WebSocket as the byte stream that libp2p's upgrader wants. Must be made before the socket's first message can arrive. */
class WebSocketConnection extends AbstractMultiaddrConnection {
  readonly #socket: WebSocket;

  constructor(socket: WebSocket, remoteAddr: Multiaddr, direction: MessageStreamDirection, logger: ComponentLogger) {
    super({ remoteAddr, direction, log: logger.forComponent("libp2p:websocket:connection"), maxMessageSize: MESSAGE_BYTES });
    this.#socket = socket;
    socket.binaryType = "nodebuffer";
    socket.on("message", (data, isBinary) => {
      if (isBinary && data instanceof Buffer) this.onData(data);
      else this.abort(new NetError("FRAME_MALFORMED", "text on a WebSocket that carries bytes"));
    });
    socket.on("error", (error) => this.abort(error));
    socket.on("close", () => this.onTransportClosed());
  }

  sendData(data: Parameters<AbstractMultiaddrConnection["sendData"]>[0]): SendResult {
    const sentBytes = data.byteLength;
    this.#socket.send(data.subarray(), { binary: true }, () => this.#sent());
    return { sentBytes, canSendMore: this.#socket.bufferedAmount < BUFFERED_BYTES };
  }

  #sent(): void {
    if (this.writableNeedsDrain && this.#socket.bufferedAmount < BUFFERED_BYTES) this.safeDispatchEvent("drain");
  }

  sendReset(): void {
    this.#socket.terminate();
  }

  /** Resolves when the socket is closed: `ws` cuts it when the peer does not answer in time. */
  async sendClose(): Promise<void> {
    if (this.#socket.readyState === WebSocket.CLOSED) return;
    const closed = new Promise<void>((resolve) => this.#socket.once("close", () => resolve()));
    this.#socket.close(1000);
    await closed;
  }

  sendPause(): void {
    this.#socket.pause();
  }

  sendResume(): void {
    this.#socket.resume();
  }
}

/** Dials `/.../ws` and `/.../tls/ws`. Who calls us over WebSocket comes in through port 8421 (federation-port.ts), so there is no listener. */
export function webSocket(): (components: Components) => Transport {
  return ({ logger }) => ({
    [transportSymbol]: true,
    [Symbol.toStringTag]: "continuum/websocket",
    async dial(address, options): Promise<Connection> {
      const connection = await connect(address, options.signal, logger);
      try {
        return await options.upgrader.upgradeOutbound(connection, options);
      } catch (error) {
        connection.abort(error as Error);
        throw error;
      }
    },
    createListener(): never {
      throw new Error("WebSocket is listened to by the TCP listener of port 8421");
    },
    listenFilter: () => [],
    dialFilter: (addresses) => addresses.filter(isWebSocket),
  });
}

function connect(address: Multiaddr, signal: AbortSignal, logger: ComponentLogger): Promise<WebSocketConnection> {
  signal.throwIfAborted();
  const { url, family } = webSocketTarget(address)!;
  const options: ClientOptions & { closeTimeout: number } = { ...BOUNDS, ...(family === undefined ? {} : { family }) };
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, options);
    const giveUp = () => socket.terminate(); // "error" follows
    signal.addEventListener("abort", giveUp, { once: true });
    socket.once("error", reject);
    socket.once("close", () => signal.removeEventListener("abort", giveUp));
    socket.once("open", () => {
      signal.removeEventListener("abort", giveUp);
      resolve(new WebSocketConnection(socket, address, "outbound", logger));
    });
  });
}

/** Answers upgrade requests and hands their sockets to libp2p. */
export class WebSocketDoor {
  readonly #server = new WebSocketServer({ ...BOUNDS, noServer: true, clientTracking: false });
  readonly #upgrader: Upgrader;
  readonly #logger: ComponentLogger;
  readonly #closing = new AbortController();

  constructor(upgrader: Upgrader, { logger }: Components) {
    this.#upgrader = upgrader;
    this.#logger = logger;
  }

  enter(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { remoteAddress, remotePort } = request.socket;
    if (remoteAddress === undefined || remotePort === undefined || this.#closing.signal.aborted) {
      socket.destroy(); // it has gone already, or we are going
      return;
    }
    const remote = ipPortToMultiaddr(remoteAddress, remotePort).encapsulate("/ws");
    this.#server.handleUpgrade(request, socket, head, (accepted) => {
      const connection = new WebSocketConnection(accepted, remote, "inbound", this.#logger);
      this.#upgrader.upgradeInbound(connection, { signal: this.#closing.signal }).catch((error: Error) => connection.abort(error));
    });
  }

  /** Nobody comes in any more, and who is not admitted yet will not be. */
  close(): void {
    this.#closing.abort();
  }
}

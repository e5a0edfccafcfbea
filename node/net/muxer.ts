import type { StreamMuxer, StreamMuxerFactory } from "@libp2p/interface";
import { yamux } from "@libp2p/yamux";

/**
 * Yamux that does not throw when it writes to a connection that has just closed. It writes from microtasks (a new stream's first frame), where
 * nobody can catch: a peer that hangs up at the wrong moment would end this process (@libp2p/yamux 8.0.3, muxer.js `onCreateStream`).
 * What is not written is lost with the connection, and the close event tells everybody.
 */
export function forgivingYamux(): () => StreamMuxerFactory {
  return () => {
    const factory: StreamMuxerFactory = yamux()();
    const create = factory.createStreamMuxer.bind(factory);
    factory.createStreamMuxer = (connection) => forgiving(create(connection));
    return factory;
  };
}

function forgiving(muxer: StreamMuxer): StreamMuxer {
  const sender = muxer as StreamMuxer & { send?: (data: unknown) => boolean };
  const send = sender.send?.bind(muxer);
  if (send === undefined) throw new Error("@libp2p/yamux no longer writes through `send`: adapt node/net/muxer.ts");
  sender.send = (data) => {
    try {
      return send(data);
    } catch (error) {
      if ((error as Error).name === "StreamStateError") return false;
      throw error;
    }
  };
  return muxer;
}

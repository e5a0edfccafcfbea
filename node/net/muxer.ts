import type { StreamMuxer, StreamMuxerFactory } from "@libp2p/interface";
import { yamux } from "@libp2p/yamux";
import { STREAMS_A_CONNECTION_MAX } from "../../protocol/limits.ts";
import type { Meter } from "../ports.ts";

/**
 * Yamux that does not throw when it writes to a connection that has just closed. It writes from microtasks (a new stream's first frame), where
 * nobody can catch: a peer that hangs up at the wrong moment would end this process (@libp2p/yamux 8.0.3, muxer.js `onCreateStream`).
 * What is not written is lost with the connection, and the close event tells everybody. A peer's streams are bounded; one more is reset and counted.
 */
export function forgivingYamux(meter: Meter): () => StreamMuxerFactory {
  return () => {
    const factory: StreamMuxerFactory = yamux({ maxInboundStreams: STREAMS_A_CONNECTION_MAX })();
    const create = factory.createStreamMuxer.bind(factory);
    factory.createStreamMuxer = (connection) => countingRefused(forgiving(create(connection)), meter);
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

/** Yamux resets a stream that is too many without telling anybody. */
function countingRefused(muxer: StreamMuxer, meter: Meter): StreamMuxer {
  const opener = muxer as StreamMuxer & { incomingStream?: (id: number) => void; numInboundStreams?: number };
  const open = opener.incomingStream?.bind(muxer);
  if (open === undefined || opener.numInboundStreams !== 0)
    throw new Error("@libp2p/yamux no longer counts `numInboundStreams` in `incomingStream`: adapt node/net/muxer.ts");
  opener.incomingStream = (id) => {
    if (opener.numInboundStreams! >= STREAMS_A_CONNECTION_MAX) meter.count("connection_error", 1, "too_many_streams");
    open(id);
  };
  return muxer;
}

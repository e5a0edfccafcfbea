/**
 * What a connection may cost before its peer has proved the secret. libp2p bounds how many there are; here each also gets no more than
 * STRANGER_MAX_BYTES (its own layers would keep 4 MB each), and who is turned away because there are too many is counted.
 */
import type { Connection, Listener, MultiaddrConnection, Transport, Upgrader } from "@libp2p/interface";
import { AbstractMultiaddrConnection } from "@libp2p/utils";
import { STRANGER_MAX_BYTES } from "../../protocol/limits.ts";
import type { Meter } from "../ports.ts";
import { NetError } from "./errors.ts";

type Data = Parameters<AbstractMultiaddrConnection["onData"]>[0];

/** @returns the same transport, whose connections are bounded until they are admitted */
export function boundedBeforeAdmission(transport: Transport, meter: Meter): Transport {
  if (typeof AbstractMultiaddrConnection.prototype.onData !== "function") {
    throw new Error("@libp2p/utils no longer takes a connection's bytes in `onData`: adapt node/net/before-admission.ts");
  }
  const createListener = transport.createListener.bind(transport);
  transport.createListener = (options): Listener => createListener({ ...options, upgrader: bounded(options.upgrader, meter) });
  const dial = transport.dial.bind(transport);
  transport.dial = (address, options): Promise<Connection> => dial(address, { ...options, upgrader: bounded(options.upgrader, meter) });
  return transport;
}

function bounded(upgrader: Upgrader, meter: Meter): Upgrader {
  const upgradeInbound: Upgrader["upgradeInbound"] = async (connection, options) => {
    const admitted = countBytes(connection, meter);
    try {
      await upgrader.upgradeInbound(connection, options);
    } catch (error) {
      if ((error as Error).name === "ConnectionDeniedError") meter.count("connection_error", 1, "too_many_connections");
      throw error;
    }
    admitted();
  };
  const upgradeOutbound: Upgrader["upgradeOutbound"] = async (connection, options) => {
    const admitted = countBytes(connection, meter);
    const upgraded = await upgrader.upgradeOutbound(connection, options);
    admitted();
    return upgraded;
  };
  return Object.create(upgrader, { upgradeInbound: { value: upgradeInbound }, upgradeOutbound: { value: upgradeOutbound } }) as Upgrader;
}

/** @returns to be called once the peer is admitted */
function countBytes(connection: MultiaddrConnection, meter: Meter): () => void {
  const taken = connection as unknown as { onData: (data: Data) => void };
  const onData = taken.onData.bind(connection);
  let bytes = 0;
  taken.onData = (data) => {
    bytes += data.byteLength;
    if (bytes <= STRANGER_MAX_BYTES) return onData(data);
    if (connection.status === "open") meter.count("connection_error", 1, "stranger_too_large");
    connection.abort(new NetError("FRAME_TOO_LARGE", `more than ${STRANGER_MAX_BYTES} bytes before the peer was admitted`));
  };
  return () => {
    taken.onData = onData;
  };
}

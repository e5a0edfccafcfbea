/**
 * A process that lives in a network of its own, as in another cluster: it dials from its own address, and addresses of other networks lead nowhere, whoever
 * told of them. `--import`ed by Node before a node's program, for processes that share one loopback.
 */
import { Socket, type TcpNetConnectOpts } from "node:net";
import { pathToFileURL } from "node:url";

/** Environment: the address to dial from, and how addresses begin that cannot be reached, a comma between. */
export interface OwnNetwork {
  readonly TEST_OWN_ADDRESS: string;
  readonly TEST_UNREACHABLE: string;
}
export const OWN_NETWORK = ["--import", pathToFileURL(import.meta.filename).href] as const;

const { TEST_OWN_ADDRESS: own, TEST_UNREACHABLE: unreachable } = process.env as Partial<OwnNetwork>;
if (own !== undefined && unreachable !== undefined) live(own, unreachable.split(","));

function live(address: string, elsewhere: readonly string[]): void {
  const trueConnect = Socket.prototype.connect as (...given: unknown[]) => Socket;
  // `net.connect` hands its arguments on as one array, options first.
  Socket.prototype.connect = function (this: Socket, ...given: unknown[]): Socket {
    const options = (Array.isArray(given[0]) ? (given[0] as unknown[])[0] : given[0]) as Partial<TcpNetConnectOpts> | undefined;
    // A path, of a pipe, is no network. A port may be a string.
    if (options?.port !== undefined) {
      if (elsewhere.some((start) => options.host?.startsWith(start))) {
        process.nextTick(() =>
          this.destroy(Object.assign(new Error(`connect ENETUNREACH ${options.host}:${options.port}`), { code: "ENETUNREACH" })),
        );
        return this;
      }
      options.localAddress = address;
    }
    return trueConnect.apply(this, given);
  };
}

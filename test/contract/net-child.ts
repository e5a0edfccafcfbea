/** A net in a process of its own, which can be stopped and continued, or trust another authority. Sends every frame back. Started by net-process.ts. */
import { type TestNetOptions, testNet } from "./net-nodes.ts";

const node = await testNet(JSON.parse(process.argv[2]!) as TestNetOptions);
node.net.onFrame = (from, frame) => void node.net.send(from, frame);
node.net.onPeer = (peer, connected) => console.log(JSON.stringify({ peer, connected }));
console.log(JSON.stringify({ self: node.net.self, port: node.port() }));

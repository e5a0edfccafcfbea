/**
 * What runs before anything is installed: `node bootstrap.mjs start|test|check|e2e|format|run FILE [arguments]`. Brings node_modules in line
 * with package-lock.json, then hands over to the Node that lies there. No dependency, syntax of Node 20. Its own words go to stderr, so
 * that the output of `--json` commands stays clean.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { takeLock } from "./process-lock.mjs";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const BIN = join(ROOT, "node_modules", ".bin");
/** The package that carries a Node for this machine, if npm has one. */
const BUNDLED = `node_modules/node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`;
/** The first Node that runs TypeScript as it is. */
const NODE_MIN = [22, 18];

const VITEST = ["node_modules/vitest/vitest.mjs", "run", "--root", ".", "--config", "test/vitest.config.ts"];
const UNIT = [...VITEST, "test/unit", "test/contract"];
/** Tests that wait for timers, breed mutants or draw thousands of cases: `npm test` runs them, `npm run check` is to be done within a minute. */
const LONG =
  "**/{cli-exit-codes,consensus-mutants,formation-mutants,floor,forward,fuzz,graph-laws,graph-counts,hostile-member,http-errors,http-routes,inflating,net-*,replica-changes,resealing,revocations,scrub,snapshots,store-floors,store-partitions}.test.ts";
/** Each command is a list of steps, run one after the other until one fails; the arguments of the caller go to the last. */
const COMMANDS = {
  start: [["node/main.ts", "federation"]],
  test: [UNIT],
  check: [
    ["node_modules/@biomejs/biome/bin/biome", "check", "--config-path=.biome.json", "."],
    ["node_modules/typescript/bin/tsc", "-p", "."],
    [...UNIT, "--exclude", LONG],
  ],
  e2e: [[...VITEST, "--no-file-parallelism", "test/e2e"]],
  format: [["node_modules/@biomejs/biome/bin/biome", "check", "--config-path=.biome.json", "--write", "."]],
  run: [[]],
};

/** A reason to stop that is said in one sentence. */
class Stop extends Error {
  constructor(sentence, code = 1) {
    super(sentence);
    this.code = code;
  }
}

main(process.argv.slice(2)).then(leave, (error) => {
  say(error instanceof Stop ? error.message : `unexpected: ${error.stack ?? error}`);
  process.exit(error instanceof Stop ? error.code : 1);
});

/** @returns how the last step ended: a code, or the signal that ended it */
async function main([command, ...rest]) {
  const steps = Object.hasOwn(COMMANDS, command ?? "") ? COMMANDS[command] : undefined;
  if (steps === undefined) throw new Stop(`usage: node node/cli/bootstrap.mjs ${Object.keys(COMMANDS).join("|")} [arguments]`, 2);
  const given = rest[0] === "--" ? rest.slice(1) : rest;
  if (command === "run" && given[0] === undefined) throw new Stop("which file? Usage: node node/cli/bootstrap.mjs run FILE [arguments]", 2);
  const interrupted = await install();
  if (interrupted !== undefined) return { signal: interrupted };
  const node = chooseNode();
  if (node === undefined) {
    throw new Stop(
      `Node ${NODE_MIN.join(".")} or newer is needed and this is ${process.versions.node}; npm brings no Node for ${process.platform}-${process.arch}. Install a newer Node and try again.`,
    );
  }
  for (const [index, step] of steps.entries()) {
    const last = index === steps.length - 1;
    const ended = await handOver(node, last ? [...step, ...given] : step, command === "run");
    if (last || ended.code !== 0) return ended;
  }
  throw new Error("a command without steps");
}

/**
 * Runs `npm ci` when node_modules is not what the lock file asks for. Several at once wait for one another.
 * @returns the signal that ended it early, if one did
 */
async function install() {
  if (whatIsMissing() === undefined) return undefined;
  const lock = await installLock();
  try {
    const why = whatIsMissing(); // another process may have finished it meanwhile
    if (why === undefined) return undefined;
    say(`Installing packages with npm ci, because ${why}. This takes 15 to 40 seconds ...`);
    const began = Date.now();
    const { code, signal, output } = await npmCi(lock);
    if (signal !== null) return signal;
    if (code !== 0) {
      process.stderr.write(output.replace(/^npm warn .*\n/gm, ""));
      throw new Stop(
        /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT/.test(output)
          ? "npm ci could not reach the package registry: check the network (or npm's proxy settings) and run the same command again."
          : `npm ci failed with exit code ${code}; its own words are above.`,
      );
    }
    say(`Installed in ${Math.round((Date.now() - began) / 1000)} s.`);
    return undefined;
  } finally {
    lock.release();
  }
}

/**
 * @returns why an installation is needed, as the end of a sentence, or undefined. npm writes node_modules/.package-lock.json when an
 * installation is complete, so comparing it with the lock file needs no record of our own.
 */
function whatIsMissing() {
  const wanted = readPackages("package-lock.json");
  if (wanted === undefined) throw new Stop("package-lock.json cannot be read: is this a complete clone?");
  const present = readPackages("node_modules/.package-lock.json");
  if (present === undefined) return "node_modules is missing or incomplete";
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    if (path === "") continue;
    if (present[path] === undefined ? !optional : present[path].version !== version) return `node_modules lacks ${path.slice(13)} ${version}`;
  }
  if (Object.keys(present).some((path) => wanted[path] === undefined)) return "node_modules holds packages of another version of this project";
  return wanted[BUNDLED] !== undefined && chooseNode() === undefined ? "the Node it brings is missing" : undefined;
}

function readPackages(file) {
  try {
    return JSON.parse(readFileSync(join(ROOT, file), "utf8")).packages;
  } catch {
    return undefined;
  }
}

/** Lies outside node_modules, which npm ci empties; tmp/ is ignored by git. */
async function installLock() {
  const folder = join(ROOT, "tmp");
  let waiting = false;
  for (;;) {
    let lock;
    try {
      mkdirSync(folder, { recursive: true });
      lock = takeLock(join(folder, "install.lock"));
    } catch (error) {
      if (error.code === "ENOENT") continue; // the folder went away between the two lines
      throw new Stop(`packages must be installed, and ${ROOT} cannot be written (${error.code}): use a folder of your own.`);
    }
    if (lock.held) {
      const release = () => {
        lock.release();
        removeEmpty(folder);
      };
      return { alsoHeldBy: lock.alsoHeldBy, release };
    }
    if (!waiting) say(`Another process (${lock.pid}) is installing packages here; waiting for it.`);
    waiting = true;
    await new Promise((resume) => setTimeout(resume, 200));
  }
}

function removeEmpty(folder) {
  try {
    rmdirSync(folder);
  } catch {
    // somebody keeps something in it
  }
}

function npmCi(lock) {
  const arguments_ = ["ci", "--include=dev", "--include=optional", "--no-audit", "--no-fund"];
  // The bundled Node is about to be replaced: npm must not run on it.
  const path = (process.env.PATH ?? "").split(delimiter).filter((entry) => resolve(entry) !== BIN);
  const npm = spawn("npm", arguments_, {
    cwd: ROOT,
    env: { ...process.env, PATH: path.join(delimiter), NODE_ENV: "development" },
    stdio: ["ignore", "pipe", "pipe"],
    shell: process.platform === "win32",
  });
  if (npm.pid !== undefined) lock.alsoHeldBy(npm.pid);
  const forget = forwardSignals(npm);
  let output = "";
  for (const stream of [npm.stdout, npm.stderr]) stream.on("data", (chunk) => (output += chunk));
  return new Promise((done) => {
    npm.on("error", (error) => done({ code: 127, signal: null, output: `${output}${error.message}\n` }));
    npm.on("close", (code, signal) => {
      forget();
      done({ code, signal, output });
    });
  });
}

function chooseNode() {
  const bundled = join(ROOT, BUNDLED, "bin", "node");
  const found = [bundled, `${bundled}.exe`].find((file) => existsSync(file));
  if (found !== undefined) return found;
  const [major, minor] = process.versions.node.split(".").map(Number);
  return major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1]) ? process.execPath : undefined;
}

/** @param here `run` leaves the working directory as it is, so that relative paths in arguments mean what the caller meant */
function handOver(node, arguments_, here) {
  const child = spawn(node, here ? [resolve(arguments_[0]), ...arguments_.slice(1)] : arguments_, {
    cwd: here ? process.cwd() : ROOT,
    env: { ...process.env, PATH: [BIN, process.env.PATH].join(delimiter) },
    stdio: "inherit",
  });
  const forget = forwardSignals(child);
  stopWithNpm(child);
  return new Promise((done, failed) => {
    child.on("error", (error) => failed(new Stop(`${node} cannot be started (${error.message}).`)));
    child.on("exit", (code, signal) => {
      forget();
      done({ code, signal });
    });
  });
}

/** A terminal sends Ctrl-C to the whole group, npm sends it once more, we once more: who stops on a second signal must not count in milliseconds. */
function forwardSignals(child) {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  const handlers = signals.map((signal) => [signal, () => child.kill(signal)]);
  for (const [signal, handler] of handlers) process.on(signal, handler);
  return () => {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  };
}

/** A signal to npm alone kills the shell between npm and us, and tells us nothing: what we run must not go on without its owner. */
function stopWithNpm(child) {
  if (process.env.npm_lifecycle_event === undefined) return;
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) child.kill("SIGTERM");
  }, 500).unref();
}

/** Ends as the child ended: the same code, or the same signal. */
function leave({ code, signal }) {
  if (signal === null || signal === undefined) process.exit(code ?? 1);
  process.kill(process.pid, signal);
  setTimeout(() => process.exit(128 + (constants.signals[signal] ?? 0)), 500);
}

function say(sentence) {
  process.stderr.write(`continuum: ${sentence}\n`);
}

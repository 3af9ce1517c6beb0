'use strict';
// One action in its container: /init loads it, /run calls it. The answers are those of OpenWhisk's Node.js runtime: what
// an action throws is 502 and ends the container's service, a promise it rejects is a 200 with `error`.

const { isUtf8 } = require('buffer');
const fs = require('fs');
const Module = require('module');
const path = require('path');

const EXIT_MEMORY = 86; // the exit code that says: the memory limit was met
const MAIN_FILE = 'main__.js';
const MAIN_MODULE_FILE = 'main__.mjs';
// What Node says of code that is an ECMAScript module and was taken for CommonJS.
const MODULE_SYNTAX =
  /^(Cannot use (import statement|'import\.meta') outside a module|Unexpected token 'export'|await is only valid in .*)$/;
const NAME_PATH = /^[\p{ID_Start}$_][\p{ID_Continue}$]*(\.[\p{ID_Start}$_][\p{ID_Continue}$]*)*$/u;

// The answer to a request is this status and text, other than 200.
class RequestError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

// One line for a person; what is thrown need be no Error, and may have no text at all.
function describe(error) {
  try {
    return String(error);
  } catch {
    return 'an object without a text';
  }
}

// The object of a request's body. Throws RequestError(400) for anything else.
function parseObject(body) {
  let parsed;
  try {
    if (!isUtf8(body)) throw new SyntaxError('it is not UTF-8');
    parsed = JSON.parse(body.toString());
  } catch (error) {
    throw new RequestError(400, `The request is not JSON: ${error.message}`);
  }
  if (!isObject(parsed)) throw new RequestError(400, 'The request is not a JSON object.');
  return parsed;
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// Throws RequestError for what no environment can hold.
function setEnvironment(values) {
  for (const [name, value] of Object.entries(values)) {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    if (!name || name.includes('=') || name.includes('\0') || text.includes('\0')) {
      throw new RequestError(400, `The environment cannot hold '${name}'.`);
    }
    process.env[name] = text;
  }
}

// The JSON of a result. Throws RequestError(502) for what is no object or array, or cannot be said in JSON.
function encodeResult(result) {
  let text;
  try {
    text = typeof result === 'object' && result !== null ? JSON.stringify(result) : undefined;
  } catch (error) {
    const nested = error instanceof RangeError;
    const text = nested ? "The action's result is nested too deeply." : `The action's result is not JSON: ${describe(error)}`;
    throw new RequestError(502, text);
  }
  // Not only what is a string is none: an object may say by toJSON that it is one.
  if (text === undefined || (text[0] !== '{' && text[0] !== '[')) {
    throw new RequestError(502, 'The action did not return a dictionary.');
  }
  return text;
}

// Shows the action's part of a stack trace only.
function cutStack(error) {
  if (!(error instanceof Error) || typeof error.stack !== 'string') return;
  const lines = error.stack.split('\n').filter((line) => !line.includes(`(${__dirname}${path.sep}`));
  try {
    error.stack = lines.join('\n');
  } catch {
    // frozen: it stays as it is
  }
}

// What a promise was rejected with, as JSON has it: an Error's own words are not enumerable.
function rejection(reason) {
  if (!reason) return {};
  if (!(reason instanceof Error)) return reason;
  const said = { ...reason };
  for (const name of ['name', 'message', 'stack', 'code']) {
    if (reason[name] !== undefined) said[name] = reason[name];
  }
  try {
    JSON.stringify(said);
  } catch {
    return { name: said.name, message: said.message, stack: said.stack }; // circles, as errors of clients have them
  }
  return said;
}

// No room for a Buffer is an error that can be caught; a JavaScript heap without room ends the process by itself.
function isOutOfMemory(error) {
  return error instanceof RangeError && error.message === 'Array buffer allocation failed';
}

// Packages are the action's own: none of the host's, wherever above the folder or in Node's global folders they lie.
function findPackagesOnlyIn(folder) {
  const lookup = Module._resolveLookupPaths;
  Module._resolveLookupPaths = (request, parent) => {
    const paths = lookup(request, parent);
    return paths && !request.startsWith('.') ? paths.filter((one) => one.startsWith(`${folder}/`)) : paths;
  };
}

// The value at a path of names such as `exports.main`, undefined where there is none.
function memberAt(object, names) {
  return names.reduce((value, name) => value?.[name], object);
}

function canBeRead(name) {
  try {
    new Function(`return ${name}`); // eslint-disable-line no-new-func -- compiled, never called: a reserved word is none
    return true;
  } catch {
    return false;
  }
}

// Run a source text as a module once and find `main`: a name that is visible at its end, or one of its exports.
async function loadSource(folder, code, main) {
  const file = path.join(folder, MAIN_FILE);
  fs.writeFileSync(file, code); // so that stack traces can be followed
  const module = new Module(file, null);
  module.filename = file;
  module.paths = [path.join(folder, 'node_modules')];
  process.argv[1] = file;
  let found;
  Object.defineProperty(module, 'found', { configurable: true, set: (value) => (found = value) });
  const ending = canBeRead(main) ? `\n;try { module.found = ${main} } catch {}` : '';
  const names = main.split('.');
  if (names[0] === 'exports') names.shift();
  try {
    module._compile(code + ending, file, 'commonjs');
  } catch (error) {
    if (!(error instanceof SyntaxError && MODULE_SYNTAX.test(error.message))) throw error;
    process.argv[1] = path.join(folder, MAIN_MODULE_FILE);
    fs.writeFileSync(process.argv[1], code);
    return memberAt(await importFile(process.argv[1]), names);
  }
  delete module.found;
  return found ?? memberAt(module.exports, names);
}

// Unpack a zip, run its entry module once and find `main`: `name`, or `module.name` in the file `module` of the zip.
async function loadZip(folder, code, main) {
  const { unpackZip, ZipError } = require('./unzip.cjs');
  try {
    unpackZip(Buffer.from(code, 'base64'), folder);
  } catch (error) {
    if (error instanceof ZipError) throw new RequestError(502, error.message);
    throw error;
  }
  const packed = fs.existsSync(path.join(folder, 'package.json'));
  if (!packed) fs.writeFileSync(path.join(folder, 'package.json'), '{}'); // else one of a folder above would count
  const names = main.split('.');
  const inner = names.length > 1 && resolveFile(path.join(folder, ...names.slice(0, -1)));
  if (!inner && !packed && !fs.existsSync(path.join(folder, 'index.js'))) {
    throw new RequestError(502, 'Zipped actions must contain either package.json or index.js at the root.');
  }
  const file = inner || require.resolve(folder);
  process.argv[1] = file;
  return memberAt(await load(file), inner ? names.slice(-1) : names);
}

function resolveFile(file) {
  try {
    return require.resolve(file);
  } catch {
    return '';
  }
}

// A module of either system.
async function load(file) {
  try {
    return require(file);
  } catch (error) {
    if (error?.code !== 'ERR_REQUIRE_ESM' && error?.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error;
    return importFile(file);
  }
}

function importFile(file) {
  return import(require('url').pathToFileURL(file).href);
}

// The life of one container: empty, then one action for good.
class Runtime {
  #folder;
  #logs;
  #main = null;
  #stopped = false;
  #runNames = new Set();

  constructor(folder, logs) {
    this.#folder = folder;
    this.#logs = logs;
  }

  // The JSON of a 200; throws RequestError for every other status. Without `sentinels` none end the log of a run.
  async answer(target, body, sentinels) {
    if (target === 'POST /run') return this.#run(body, sentinels);
    if (target === 'POST /init') return this.#init(body);
    throw new RequestError(404, 'There is POST /init and POST /run.');
  }

  async #init(body) {
    if (this.#main) throw new RequestError(403, 'Cannot initialize the action more than once.');
    this.#refuseIfStopped();
    const { value } = parseObject(body);
    if (!isObject(value)) throw new RequestError(400, 'The request has no object `value`.');
    const { code, env: environment } = value;
    const main = value.main || 'main';
    if (typeof main !== 'string' || typeof code !== 'string' || !code) {
      throw new RequestError(403, 'Missing main/no code to execute.');
    }
    if (environment && !isObject(environment)) throw new RequestError(400, '`env` is not an object.');
    setEnvironment(environment ?? {});
    try {
      this.#main = await this.#load(main, code, Boolean(value.binary));
    } catch (error) {
      this.#stopped = true;
      throw this.#failure(error, 'Initialization has failed due to', true);
    }
    this.#logs.restore();
    return '{"OK":true}';
  }

  async #load(main, code, binary) {
    if (!NAME_PATH.test(main)) throw new RequestError(502, `Action entrypoint '${main}' is not a name.`);
    fs.mkdirSync(this.#folder, { mode: 0o700, recursive: true });
    const folder = fs.realpathSync(this.#folder); // Node knows modules by their real paths
    process.chdir(folder);
    findPackagesOnlyIn(folder);
    const found = await (binary ? loadZip : loadSource)(folder, code, main);
    if (typeof found !== 'function') throw new RequestError(502, `Action entrypoint '${main}' is not a function.`);
    return found;
  }

  async #run(body, sentinels) {
    this.#refuseIfStopped();
    if (!this.#main) throw new RequestError(403, 'System not initialized.');
    const { value = {}, ...others } = parseObject(body);
    if (typeof value !== 'object' || value === null) {
      throw new RequestError(400, '`value` is neither an object nor an array.');
    }
    this.#setRunEnvironment(others);
    let text;
    try {
      text = encodeResult(await this.#call(value));
    } catch (error) {
      if (!(error instanceof RequestError)) this.#stopped = true;
      throw this.#failure(error, 'An error has occurred', sentinels);
    }
    this.#logs.end(sentinels);
    return text;
  }

  // The action's result. Throws what it throws; a promise that it rejects is a result with `error`.
  async #call(value) {
    const main = this.#main;
    const returned = main(value);
    try {
      const result = await returned;
      return result === undefined ? {} : result; // as of `return;`
    } catch (error) {
      if (isOutOfMemory(error)) throw error;
      cutStack(error);
      return { error: rejection(error) };
    }
  }

  #setRunEnvironment(values) {
    const given = Object.fromEntries(Object.entries(values).map(([name, v]) => [`__OW_${name.toUpperCase()}`, v]));
    for (const name of this.#runNames) {
      if (!(name in given)) delete process.env[name]; // what only an earlier run was given, such as an API key
    }
    setEnvironment(given);
    this.#runNames = new Set(Object.keys(given));
  }

  // Logs what the action's code threw, ends the log, and makes an answer of it. Does not return without memory.
  #failure(error, what, sentinels) {
    cutStack(error);
    if (!(error instanceof RequestError)) console.error(error);
    this.#logs.end(sentinels);
    if (isOutOfMemory(error)) process.exit(EXIT_MEMORY);
    return error instanceof RequestError ? error : new RequestError(502, `${what}: ${describe(error)}`);
  }

  #refuseIfStopped() {
    if (this.#stopped) throw new RequestError(403, 'System not ready, status is stopped.');
  }
}

module.exports = { RequestError, Runtime };

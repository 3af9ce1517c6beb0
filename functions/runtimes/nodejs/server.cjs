'use strict';
// The server inside a Node.js container: OpenWhisk's action protocol (`POST /init` once, then `POST /run`) as HTTP/1.1,
// one request at a time, with what OpenWhisk's Node.js runtime answers (see runtime.cjs).
//
//   node server.cjs --port N                    listens there on all addresses; code and zips go into /tmp/action
//   node server.cjs --socket PATH               listens there; code and zips go into the folder PATH.action
//   node server.cjs --connection FD [--ready FD TEXT]
//                                               serves the connection it inherited and ends with it; code and zips go
//                                               into ./action. TEXT is written to the second descriptor, which is then
//                                               closed, as soon as requests are taken.
//
// The log reaches file descriptors 1 and 2 as it is written. After each run, and after an init that failed, the
// sentinel line ends both streams *before* the answer is sent, so whoever has the answer can already read the whole log.
// A client that does so needs no sentinels: where a /run has the header `X-Fallow-Sentinels: none`, none are written,
// and the answer says `X-Fallow-Logs: complete`.
//
// The name ends in .cjs so that no package.json of a folder above decides what kind of module this is. No npm package
// is used, and not Node's http: that module takes some 3 ms of a container's start.

const fs = require('fs');
const net = require('net');
const path = require('path');
const { LogStreams } = require('./logs.cjs');
const { EXIT_MEMORY, RequestError, Runtime, isOutOfMemory } = require('./runtime.cjs');

const HEAD_LIMIT_BYTES = 65_536;
const BODY_LIMIT_BYTES = 192 << 20; // 48 MiB of code are 64 MiB in base64
const STATUS_TEXT = { 200: 'OK', 400: 'Bad Request', 403: 'Forbidden', 404: 'Not Found', 411: 'Length Required' };
const NO_SENTINELS = '\r\nx-fallow-sentinels: none\r\n';
const PORT_FOLDER = '/tmp/action';
const USAGE = 'usage: server.cjs --port N | --socket PATH | --connection FD [--ready FD TEXT]';

// The bytes of a request's body; 0 without one. Throws RequestError where its head, in lower case, does not say.
function contentLength(lower) {
  const found = /\r\ncontent-length:[ \t]*([^\r]*?)[ \t]*\r\n/.exec(lower);
  if (!found) {
    if (lower.includes('\r\ntransfer-encoding:') || lower.startsWith('post')) {
      throw new RequestError(411, 'Content-Length is required.');
    }
    return 0;
  }
  if (!/^\d{1,20}$/.test(found[1])) throw new RequestError(400, 'Content-Length is not a number.');
  const length = Number(found[1]);
  if (length > BODY_LIMIT_BYTES) {
    throw new RequestError(413, `The request is larger than ${BODY_LIMIT_BYTES >> 20} MiB.`);
  }
  return length;
}

// One client: requests are answered in turn, and what comes meanwhile waits.
class Connection {
  #socket;
  #runtime;
  #waiting = Buffer.alloc(0); // what came and is not yet part of a request
  #request = null; // whose body is coming: { target, sentinels, body, have }
  #busy = false;

  constructor(socket, runtime) {
    this.#socket = socket;
    this.#runtime = runtime;
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('error', () => {}); // the client gave up this request; 'close' follows
  }

  #take(chunk) {
    if (this.#busy || this.#request === null) {
      this.#waiting = this.#waiting.length ? Buffer.concat([this.#waiting, chunk]) : chunk;
    } else {
      this.#fill(chunk);
    }
    if (!this.#busy) this.#advance();
  }

  #advance() {
    try {
      if (this.#request === null) this.#readHead();
    } catch (error) {
      if (isOutOfMemory(error)) process.exit(EXIT_MEMORY);
      if (!(error instanceof RequestError)) throw error;
      this.#send(error.status, JSON.stringify({ error: error.message }), true);
      this.#busy = true; // what follows cannot be told from a body
      this.#socket.end();
      return;
    }
    if (this.#request === null || this.#request.have < this.#request.body.length) return;
    const request = this.#request;
    this.#request = null;
    this.#busy = true;
    this.#answer(request);
  }

  #readHead() {
    const data = this.#waiting;
    const end = data.indexOf('\r\n\r\n');
    if (end < 0) {
      if (data.length > HEAD_LIMIT_BYTES) throw new RequestError(431, "The request's head is too large.");
      return;
    }
    const head = data.toString('latin1', 0, end + 2);
    const lower = head.toLowerCase();
    this.#request = {
      target: head.split(' ', 2).join(' '),
      sentinels: !lower.includes(NO_SENTINELS),
      body: Buffer.allocUnsafe(contentLength(lower)), // at once: code is large, and pieces would be joined to a copy
      have: 0,
    };
    this.#waiting = Buffer.alloc(0);
    this.#fill(data.subarray(end + 4));
  }

  #fill(data) {
    const { body, have } = this.#request;
    const taken = data.copy(body, have);
    this.#request.have += taken;
    if (taken < data.length) this.#waiting = data.subarray(taken);
  }

  async #answer({ target, body, sentinels }) {
    let status = 200;
    let text;
    try {
      text = await this.#runtime.answer(target, body, sentinels);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error; // ends the process, with its stack in the log
      status = error.status;
      text = JSON.stringify({ error: error.message });
    }
    this.#send(status, text, sentinels);
    this.#busy = false;
    if (this.#waiting.length) this.#advance();
  }

  #send(status, text, sentinels) {
    const logs = sentinels ? '' : 'X-Fallow-Logs: complete\r\n';
    this.#socket.write(
      `HTTP/1.1 ${status} ${STATUS_TEXT[status] ?? 'Error'}\r\nContent-Type: application/json\r\n${logs}` +
        `Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
    );
  }
}

function listen(address, folder) {
  process.umask(0o077);
  const runtime = new Runtime(folder, new LogStreams());
  net.createServer({ noDelay: true }, (socket) => new Connection(socket, runtime)).listen(address);
}

function inherit(connectionFd, readyFd, text) {
  const runtime = new Runtime(path.resolve('action'), new LogStreams());
  const socket = new net.Socket({ fd: connectionFd });
  new Connection(socket, runtime);
  socket.on('close', () => process.exit(0));
  if (readyFd === undefined) return;
  fs.writeSync(readyFd, text);
  fs.closeSync(readyFd);
}

const [option, value, ready, readyFd, text] = process.argv.splice(2);
if (option === '--socket' && value) {
  listen({ path: value }, `${path.resolve(value)}.action`);
} else if (option === '--port' && /^\d{1,5}$/.test(value ?? '')) {
  listen({ port: Number(value), host: '0.0.0.0' }, PORT_FOLDER);
} else if (option === '--connection' && value && (!ready || (ready === '--ready' && text))) {
  inherit(Number(value), ready && Number(readyFd), text);
} else {
  process.stderr.write(`${USAGE}\n`);
  process.exitCode = 1;
}

'use strict';
// The action's standard output and error, each ended by a sentinel line after every run.

const fs = require('fs');
const { Writable } = require('stream');

const SENTINEL = Buffer.from('XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n');
const NEWLINE = Buffer.from('\n');

function writeAll(fd, data) {
  for (let done = 0; done < data.length; ) done += fs.writeSync(fd, data, done);
}

// What takes the place of process.stdout: as what Node gives a program whose output is a file, it has written when
// write() returns. Node's own for a pipe keeps what the pipe has no room for, and an answer could overtake it.
class LogStream extends Writable {
  atLineStart = true; // whether the last line is finished

  // The copy of the descriptor is the stream's own: an action cannot close it, and a child process that makes the
  // action's descriptor non-blocking does not change it.
  constructor(fd) {
    super({ autoDestroy: false, emitClose: false });
    this.fd = fd;
    this.copy = fs.openSync(`/proc/self/fd/${fd}`, 'a');
  }

  _write(chunk, _encoding, done) {
    try {
      writeAll(this.copy, chunk);
    } catch (error) {
      done(error);
      return;
    }
    if (chunk.length) this.atLineStart = chunk[chunk.length - 1] === 10;
    done();
  }

  // As with Node's own, an action cannot end it: the next run needs it.
  end(chunk, encoding, done) {
    if (chunk !== undefined && chunk !== null && typeof chunk !== 'function') this.write(chunk, encoding);
    const callback = [chunk, encoding, done].find((given) => typeof given === 'function');
    if (callback) process.nextTick(callback);
    return this;
  }

  destroy() {
    return this;
  }

  finish(sentinels) {
    while (this.writableCorked) this.uncork();
    if (sentinels) writeAll(this.copy, this.atLineStart ? SENTINEL : Buffer.concat([NEWLINE, SENTINEL]));
    this.atLineStart = true; // where no sentinel was wanted, whoever collects the log ends the line
  }
}

// Makes process.stdout and process.stderr, and through them console, write to the log.
class LogStreams {
  #streams = { stdout: new LogStream(1), stderr: new LogStream(2) };

  constructor() {
    this.restore();
  }

  // Undo what an action put in their place.
  restore() {
    for (const [name, stream] of Object.entries(this.#streams)) {
      Object.defineProperty(process, name, { configurable: true, enumerable: true, writable: true, value: stream });
    }
  }

  // What an action wrote is in the log; end both streams, with the sentinel line if it is wanted.
  end(sentinels = true) {
    for (const stream of Object.values(this.#streams)) stream.finish(sentinels);
    this.restore();
  }
}

module.exports = { LogStreams };

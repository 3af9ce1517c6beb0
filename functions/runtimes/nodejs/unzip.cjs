'use strict';
// Unpacks an action's zip: plain files, inside its folder, of bounded size.
//
// The central directory at the end says what there is; of what stands before each file's data only its length is taken.
// Zip64 is not read: what an action may have is far below where a zip needs it.

const fs = require('fs');
const path = require('path');
const zlib = require('zlib');

const UNPACKED_LIMIT_BYTES = 512 << 20;
const UNPACKED_LIMIT_FILES = 20_000;
const END_BYTES = 22; // the record that ends a zip, without its comment
const END_SIGNATURE = 0x06054b50;
const CENTRAL_BYTES = 46;
const CENTRAL_SIGNATURE = 0x02014b50;
const LOCAL_BYTES = 30;
const LOCAL_SIGNATURE = 0x04034b50;
const STORED = 0;
const DEFLATED = 8;
const ENCRYPTED = 1; // a flag
const FILE_TYPES = new Set([0, 0o4, 0o10]); // the type bits of a mode: none given, directory, regular file

// Why a zip is refused, in words.
class ZipError extends Error {}

const noZip = (why) => new ZipError(`The action's code is not a base64 zip: ${why}`);
const refused = (why) => new ZipError(`The action's zip ${why}`);
const broken = (why) => new ZipError(`The action's zip cannot be unpacked: ${why}`);

// Unpacks `data` into `folder`, which is empty. Throws ZipError for anything but plain files inside the folder and
// within the limits, before it writes any.
function unpackZip(data, folder) {
  const entries = readDirectory(data);
  checkEntries(entries);
  for (const entry of entries) {
    const file = path.join(folder, entry.name);
    const content = entry.name.endsWith('/') ? null : readEntry(data, entry);
    try {
      if (content === null) {
        fs.mkdirSync(file, { recursive: true });
        continue;
      }
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, content, { mode: 0o600 | (entry.mode & 0o111) });
    } catch (error) {
      throw broken(error.message); // names that collide
    }
  }
}

function readDirectory(data) {
  const end = findEnd(data);
  const count = data.readUInt16LE(end + 10);
  let at = data.readUInt32LE(end + 16);
  if (count === 0xffff || at === 0xffffffff) throw refused('is a Zip64 archive, which is not supported.');
  const entries = [];
  for (let n = 0; n < count; n += 1) {
    if (at + CENTRAL_BYTES > end || data.readUInt32LE(at) !== CENTRAL_SIGNATURE) throw noZip('its directory is damaged');
    const nameBytes = data.readUInt16LE(at + 28);
    const next = at + CENTRAL_BYTES + nameBytes + data.readUInt16LE(at + 30) + data.readUInt16LE(at + 32);
    if (next > end) throw noZip('its directory is cut off');
    entries.push({
      flags: data.readUInt16LE(at + 8),
      method: data.readUInt16LE(at + 10),
      crc: data.readUInt32LE(at + 16),
      packedBytes: data.readUInt32LE(at + 20),
      bytes: data.readUInt32LE(at + 24),
      mode: data.readUInt32LE(at + 38) >>> 16,
      offset: data.readUInt32LE(at + 42),
      name: data.toString('utf8', at + CENTRAL_BYTES, at + CENTRAL_BYTES + nameBytes),
    });
    at = next;
  }
  return entries;
}

function findEnd(data) {
  for (let at = data.length - END_BYTES; at >= Math.max(0, data.length - END_BYTES - 0xffff); at -= 1) {
    if (data.readUInt32LE(at) === END_SIGNATURE && at + END_BYTES + data.readUInt16LE(at + 20) <= data.length) return at;
  }
  throw noZip('it has no directory');
}

// Refuse a zip that would write outside of its folder, make links or devices, or be of absurd size.
function checkEntries(entries) {
  if (entries.length > UNPACKED_LIMIT_FILES) throw refused(`has more than ${UNPACKED_LIMIT_FILES} files.`);
  if (entries.reduce((sum, entry) => sum + entry.bytes, 0) > UNPACKED_LIMIT_BYTES) {
    throw refused(`unpacks to more than ${UNPACKED_LIMIT_BYTES >> 20} MiB.`);
  }
  for (const { name, mode, flags, method } of entries) {
    const shown = `'${name}'`;
    if (!name || name.startsWith('/') || /[\\\0]/.test(name) || name.split('/').includes('..')) {
      throw refused(`has a path that leaves its folder: ${shown}`);
    }
    if (!FILE_TYPES.has(mode >>> 12)) throw refused(`has an entry that is neither file nor folder: ${shown}`);
    if (flags & ENCRYPTED) throw broken(`${shown} is encrypted`);
    if (method !== STORED && method !== DEFLATED) throw broken(`${shown} is packed by a method other than deflate`);
  }
}

// A file's content. Throws ZipError where it is not of the size and checksum that the directory says.
function readEntry(data, entry) {
  const { offset, packedBytes, bytes, crc, method, name } = entry;
  if (offset + LOCAL_BYTES > data.length || data.readUInt32LE(offset) !== LOCAL_SIGNATURE) {
    throw noZip(`'${name}' is not where its directory says`);
  }
  const start = offset + LOCAL_BYTES + data.readUInt16LE(offset + 26) + data.readUInt16LE(offset + 28);
  const packed = data.subarray(start, start + packedBytes);
  let content = packed;
  if (method === DEFLATED) {
    try {
      content = zlib.inflateRawSync(packed, { maxOutputLength: Math.max(1, bytes) });
    } catch (error) {
      if (error.code === 'ERR_BUFFER_TOO_LARGE' || error.code?.startsWith('Z_')) {
        throw noZip(`'${name}' is damaged (${error.message})`);
      }
      throw error;
    }
  }
  if (content.length !== bytes || crc32(content) !== crc) throw noZip(`'${name}' is damaged`);
  return content;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(data) {
  if (zlib.crc32) return zlib.crc32(data); // from Node.js 20.15 on
  let value = 0xffffffff;
  for (const byte of data) value = (value >>> 8) ^ CRC_TABLE[(value ^ byte) & 0xff];
  return ~value >>> 0;
}

module.exports = { unpackZip, ZipError };

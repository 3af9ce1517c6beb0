// Makes calls of the official client `openwhisk`, one for each line of JSON that comes in; answers come out likewise.
'use strict'

const readline = require('readline')
const openwhisk = require('openwhisk')

const fromJson = (key, value) => (value && value.$base64 !== undefined ? Buffer.from(value.$base64, 'base64') : value)

const made = async ({ client, resource, verb, options }) => {
  try {
    const value = await openwhisk(client)[resource][verb](options)
    return { value: Buffer.isBuffer(value) ? value.toString() : value }
  } catch (error) {
    return { error: { name: error.name, message: error.message, status: error.statusCode, body: error.error } }
  }
}

const serve = async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await made(JSON.parse(line, fromJson))) + '\n')
  }
}

serve()

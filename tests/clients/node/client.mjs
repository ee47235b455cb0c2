// node-postgres' side of the conversation, and of the ends. See ../README.md.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'

const say = (...fields) => console.log(fields.map((field) => field.replace(/\n/g, ' / ').replace(/\t/g, ' ')).join('\t'))
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const hear = async () => (await input.next()).value
say('loaded')
const token = await hear()

async function connect(options = {}) {
  const ssl = { ca: readFileSync(process.env.PGSSLROOTCERT, 'utf8') }
  const client = new pg.Client({ password: token, ssl, ...options })
  client.on('error', (error) => told(error))
  await client.connect()
  return client
}

const one = async (client, ...query) => String(Object.values((await client.query(...query)).rows[0])[0])
const count = (client) => one(client, 'SELECT count(*) FROM t')

async function converse() {
  const client = await connect({ pipeline: true })
  say('simple', await one(client, "SELECT 'simple'"))
  const texts =
    "SELECT concat_ws('|', $1::int8, $2::text, $3::float8, $4::bool, $5::bytea, coalesce($6::text, 'NULL'))"
  say('values', await one(client, texts, [41, "it's Zoë\\;", 1.5, true, Buffer.from([0, 255]), null]))
  await client.query('CREATE TABLE t (n int PRIMARY KEY, x text)')
  for (const number of [1, 2, 3]) {
    await client.query({ name: 'insert', text: 'INSERT INTO t VALUES ($1, $2)', values: [number, 'x'] })
  }
  say('prepared', await count(client))
  say('error', await fail(client), await count(client))
  const batch = Array.from({ length: 20 }, (_, index) => client.query('INSERT INTO t VALUES ($1)', [100 + index]))
  await Promise.all(batch)
  say('batch', await count(client))
  await client.end()
}

// What cannot be had in node-postgres' pipeline mode.
async function converseOneByOne() {
  const client = await connect()
  say('copy', String(await copy(client)))
  const heard = new Promise((resolve) => client.once('notification', (message) => resolve(message.payload)))
  await client.query('LISTEN heard')
  await client.query("NOTIFY heard, 'by me'")
  say('notify', await heard)
  say('cancel', await cancel(client))
  const { rows } = await client.query("SELECT repeat('x', 1000) AS x FROM generate_series(1, 20000)")
  say('big', String(rows.reduce((sum, row) => sum + row.x.length, 0)))
  await client.end()
}

async function fail(client) {
  await client.query('BEGIN')
  try {
    for (const number of [4, 1]) await client.query('INSERT INTO t VALUES ($1)', [number])
  } catch (error) {
    return error.code
  } finally {
    await client.query('ROLLBACK')
  }
  return ''
}

async function copy(client) {
  const rows = Array.from({ length: 1000 }, (_, index) => `${1000 + index}\n`)
  await pipeline(Readable.from(rows), client.query(copyFrom('COPY t (n) FROM STDIN')))
  let bytes = 0
  const out = client.query(copyTo('COPY (SELECT n FROM t WHERE n >= 1000 ORDER BY n) TO STDOUT'))
  for await (const chunk of out) bytes += chunk.length
  return bytes
}

// Its CancelRequest goes in clear, on a connection of its own: Client.cancel knows no TLS.
async function cancel(client) {
  const query = new pg.Query('SELECT pg_sleep(60)')
  const ended = new Promise((resolve) => {
    query.on('error', resolve)
    query.on('end', () => resolve({ code: '' }))
  })
  client.query(query)
  await pause(300)
  new pg.Client({ ssl: false, sslnegotiation: 'postgres' }).cancel(client, query)
  return (await ended).code
}

function told(error) {
  const { name, code = '', message, detail = '', hint = '' } = error
  say('said', error.constructor.name || name, code, message, detail, hint)
  process.exit(0)
}

async function* slowly() {
  let enough = false
  hear().then(() => (enough = true))
  say('ready')
  while (!enough) {
    yield 'x\n'.repeat(10000)
    await pause(10)
  }
}

const states = {
  async idle(client) {
    say('ready')
    await hear()
    await client.query('SELECT 1')
  },
  async query(client) {
    say('ready')
    await client.query('SELECT pg_sleep(60)')
  },
  async 'copy-in'(client) {
    await client.query('CREATE TEMP TABLE t (x text)')
    await pipeline(Readable.from(slowly()), client.query(copyFrom('COPY t FROM STDIN')))
  },
  async 'copy-out'(client) {
    const slow = "COPY (SELECT repeat('x', 10000), pg_sleep(0.01) FROM generate_series(1, 100000)) TO STDOUT"
    let first = true
    for await (const _ of client.query(copyTo(slow))) {
      if (first) say('ready')
      first = false
    }
  },
}

const state = process.argv[2]
if (state === 'converse') {
  await converse()
  await converseOneByOne()
  process.exit(0)
} else {
  const client = await connect()
  try {
    await states[state](client)
  } catch (error) {
    told(error)
  }
}

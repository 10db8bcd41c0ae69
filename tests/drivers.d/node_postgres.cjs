// node-postgres (npm pg) with pg-cursor and pg-copy-streams. Lines as run.py has them.
'use strict'
const fs = require('fs')
const readline = require('readline')
const { pipeline: flow } = require('stream/promises')
const { Readable } = require('stream')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')

const ME = 'node-postgres'
const env = process.env
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const tell = (kind, name, note = '') => process.stdout.write([kind, name, String(note).split(/\s+/).join(' ')].join('\t') + '\n')
const ask = async (what) => { tell('ask', what); return (await lines.next()).value }

function settings(more = {}) {
  return {
    host: 'localhost', port: Number(env.PGPORT), user: env.PGUSER, database: env.PGDATABASE, password: env.PGPASSWORD,
    ssl: { ca: fs.readFileSync(env.PGSSLROOTCERT), rejectUnauthorized: true }, ...more,
  }
}
// A session for one step.
async function using(act, more) {
  const db = new Client(settings(more))
  db.on('error', () => {})
  await db.connect()
  try { return await act(db) } finally { await db.end().catch(() => {}) }
}
function check(what, wanted, got) {
  const [a, b] = [JSON.stringify(wanted), JSON.stringify(got)]
  if (a !== b) throw new Error(`${what}: wanted ${a}, got ${b}`)
}
async function fails(code, promise) {
  let error
  try { await promise } catch (e) { error = e }
  if (!error) throw new Error(`${code} did not come`)
  if (error.code !== code) throw new Error(`wanted ${code}, got ${error.code}: ${error.message}`)
  return error
}
const count = async (db, test) => Number((await db.query('SELECT count(*) FROM notes WHERE test = $1', [test])).rows[0].count)

const steps = {
  connect: async () => {
    await using(async (db) => check('TLS', true, db.connection.stream.encrypted))
    await fails('28000', using(async () => {}, { password: env.PGPASSWORD + 'x' }))
    await using(async (db) => check('name', 'x', (await db.query('SHOW application_name')).rows[0].application_name.split(' ')[0]), { application_name: 'x' })
  },
  simple: () => using(async (db) => {
    const got = await db.query("SELECT 1 AS a; SELECT 'two' AS b")
    check('both', [{ a: 1 }, { b: 'two' }], got.map((r) => r.rows[0]))
    check('empty', 0, (await db.query(' -- nothing')).rows.length)
  }),
  extended: () => using(async (db) => {
    for (let n = 1; n <= 20; n++) {
      const got = await db.query({ name: 'by id', text: 'SELECT name FROM items WHERE id = $1', values: [n] })
      check('name', `item ${n}`, got.rows[0].name)
    }
    const got = await db.query({ text: 'SELECT $1::text, $2::int, $3::int[]', values: ['ü€', null, [1, null, 3]], rowMode: 'array' })
    check('values', ['ü€', null, [1, null, 3]], got.rows[0])
  }),
  binary: () => using(async (db) => {
    // Only of types that this version reads rightly from a bare server, too: of 0.1::float8 it makes 0.99.
    const text = 'SELECT $1::int8 AS a, $2::int4 AS b, $3::bool AS c, $4::text AS d, $5::int4[] AS e'
    const got = await db.query({ text, values: [7, 3, true, 'ü', [1, 2]], binary: true })
    check('values', { a: '7', b: 3, c: true, d: 'ü', e: [1, 2] }, got.rows[0])
    check('format', ['binary'], [...new Set(got.fields.map((f) => f.format))])
  }),
  transaction: () => using(async (db) => {
    await db.query('BEGIN ISOLATION LEVEL SERIALIZABLE')
    await db.query('INSERT INTO notes (test) VALUES ($1)', [ME])
    await db.query('SAVEPOINT a')
    await fails('23505', db.query("INSERT INTO items (id, name) VALUES (1, 'again')"))
    await db.query('ROLLBACK TO SAVEPOINT a')
    check('rows', 1, await count(db, ME))
    await db.query('COMMIT')
  }),
  batch: () => using(async (db) => {
    const names = Array.from({ length: 1000 }, (_, n) => String(n))
    await db.query('INSERT INTO notes (test, body) SELECT $1, unnest($2::text[])', [ME + '-batch', names])
    check('rows', 1000, await count(db, ME + '-batch'))
  }),
  pipeline: () => using(async (db) => {
    const got = await Promise.all(Array.from({ length: 300 }, (_, n) => db.query('SELECT $1::int * 2 AS x', [n])))
    check('doubles', Array.from({ length: 300 }, (_, n) => 2 * n), got.map((r) => r.rows[0].x))
    const [one, , three] = await Promise.allSettled([
      db.query('SELECT 1 AS x'), db.query('SELECT 1 / ($1::int - 1)', [1]), db.query('SELECT 3 AS x'),
    ])
    check('around an error', [1, 3], [one.value.rows[0].x, three.value.rows[0].x])
    const refused = await Promise.allSettled([db.query('DELETE FROM notes'), db.query('SELECT 4 AS x')])
    check('around a refusal', ['42501', 4], [refused[0].reason.code, refused[1].value.rows[0].x])
  }, { pipeline: true }),
  'copy in': () => using(async (db) => {
    const rows = Array.from({ length: 3000 }, (_, n) => `${ME}-copy\trow ${n}\n`)
    await flow(Readable.from(rows), db.query(copyFrom('COPY notes (test, body) FROM STDIN')))
    check('rows', 3000, await count(db, ME + '-copy'))
    await fails('22P02', flow(Readable.from(Array(5000).fill('no number\tx\n')), db.query(copyFrom('COPY items (id, name) FROM STDIN'))))
    check('behind it', 0, await count(db, 'nothing'))
  }),
  'copy out': () => using(async (db) => {
    let out = ''
    for await (const block of db.query(copyTo('COPY (SELECT id FROM items ORDER BY id) TO STDOUT'))) out += block
    check('rows', 1000, out.trim().split('\n').length)
  }),
  cursor: () => using(async (db) => {
    const cursor = db.query(new Cursor('SELECT id FROM items WHERE id > $1 ORDER BY id', [0]))
    let seen = 0
    for (;;) {
      const rows = await cursor.read(7)
      if (rows.length === 0) break
      seen += rows.length
    }
    await cursor.close()
    check('rows', 1000, seen)
    const early = db.query(new Cursor('SELECT id FROM items'))
    await early.read(3)
    await early.close()
    check('behind it', 0, await count(db, 'nothing'))
  }),
  listen: () => using((one) => using(async (two) => {
    const heard = new Promise((resolve) => one.on('notification', (n) => resolve(n.payload)))
    await one.query('LISTEN node')
    await two.query("SELECT pg_notify('node', $1)", ['hello'])
    check('payload', 'hello', await heard)
    await one.query('UNLISTEN node')
  })),
  cancel: () => using((db) => using(async (other) => {
    const sleeping = fails('57014', db.query('SELECT pg_sleep(600)'))
    // The driver's own way is its native twin's; from JavaScript the server is asked.
    const canceller = setInterval(() => {
      const messenger = new Client(settings())
      messenger.on('error', () => {})
      messenger.connection.on('error', () => {})
      messenger.cancel(db, db.activeQuery ?? db._activeQuery)
    }, 300)
    try { await sleeping } finally { clearInterval(canceller) }
    check('other', 0, await count(other, 'nothing'))
  })),
  errors: () => using(async (db) => {
    const error = await fails('23505', db.query("INSERT INTO items (id, name) VALUES (1, $1)", ['x']))
    check('fields', ['shop', 'items', 'items_pkey', true], [error.schema, error.table, error.constraint, /already exists/.test(error.detail)])
    check('position', '8', (await fails('42703', db.query('SELECT nothing'))).position)
    check('next step', true, /Next:/.test((await fails('42501', db.query('DELETE FROM notes WHERE $1', [true]))).message))
    await db.query('BEGIN')
    await fails('42501', db.query('DELETE FROM notes WHERE $1', [true]))
    await fails('25P02', db.query('SELECT 1'))
    await db.query('ROLLBACK')
    check('alive', 0, await count(db, 'nothing'))
  }),
  'large objects': () => using(async (db) => {
    const one = async (text, values) => Object.values((await db.query(text, values)).rows[0])[0]
    const oid = await one('SELECT lo_from_bytea(0, $1)', [Buffer.from('abc'.repeat(1000))])
    await one('SELECT lo_put($1, 3, $2)', [oid, Buffer.from('XYZ')])
    check('read', 'XYZabc', String(await one('SELECT lo_get($1, 3, 6)', [oid])))
    check('unlink', 1, await one('SELECT lo_unlink($1)', [oid]))
    return 'by SQL functions; the driver has no other way'
  }),
  types: () => using(async (db) => {
    const got = await db.query('SELECT m, p FROM typed')
    check('values', { m: 'ok', p: '(7,seven)' }, got.rows[0])
    check('field', 3, (await db.query('SELECT * FROM items LIMIT 0')).fields.length)
  }),
  reset: async () => {
    const pool = new Pool(settings({ max: 1 }))
    for (let n = 0; n < 3; n++) {
      const db = await pool.connect()
      await db.query('DISCARD ALL')
      check('pooled', 0, await count(db, 'nothing'))
      db.release()
    }
    await pool.end()
    return 'its pool sends nothing; DISCARD ALL by hand'
  },
  drain: async () => {
    const told = []
    const db = new Client(settings())
    db.on('error', (e) => { told.push(e.message) })
    await db.connect()
    await db.query('BEGIN')
    await db.query("INSERT INTO notes (test, body) VALUES ($1, 'before')", [ME + '-drain'])
    await ask('drain')
    await db.query("INSERT INTO notes (test, body) VALUES ($1, 'while')", [ME + '-drain'])
    await db.query('COMMIT')
    await ask('reopen')
    await using(async (again) => check('kept', 2, await count(again, ME + '-drain')))
    check('told why', true, /being stopped/.test(told.join(' ')))
  },
}

async function main() {
  const only = process.argv.slice(2)
  for (const [name, step] of Object.entries(steps)) {
    if (only.length && !only.includes(name)) continue
    try { tell('yes', name, (await step()) ?? '') } catch (e) { tell('no', name, `${e.name}: ${e.message}`) }
  }
  process.exit(0)
}
main()

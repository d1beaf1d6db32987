// Node's Postgres drivers against the pooler: node-postgres, postgres.js and Prisma over its adapter. Called by `pool_node.py` as
// `node pool.cjs URL GENERATED_CLIENT`; prints one JSON object a line: {"group", "name", "error"}, error being null if it
// passed.
'use strict'

const assert = require('node:assert/strict')
const { once } = require('node:events')
const pg = require('pg')
const postgres = require('postgres')

const [url, generated] = process.argv.slice(2)
// No case takes longer, whatever happens.
const CASE_MAX = 60_000
const cases = []
const add = (group, name, run) => cases.push({ group, name, run })
const range = (n) => Array.from({ length: n }, (_, k) => k)

async function withPool (options, use) {
  const pool = new pg.Pool({ connectionString: url, ...options })
  try {
    return await use(pool)
  } finally {
    await pool.end()
  }
}

async function withSql (options, use) {
  const sql = postgres(url, { onnotice: () => {}, ...options })
  try {
    return await use(sql)
  } finally {
    await sql.end({ timeout: 1 })
  }
}

add('pool:node-postgres', '40 connections, named and unnamed statements', () => withPool({ max: 40 }, async (pool) => {
  await Promise.all(range(2000).map(async (n) => {
    const shape = n % 7
    const query = { text: `select $1::int + ${shape} as sum`, values: [n] }
    if (n % 2) query.name = `shape-${shape}`
    assert.equal((await pool.query(query)).rows[0].sum, n + shape)
  }))
}))

add('pool:node-postgres', 'the same name for different texts in two clients', async () => {
  const clients = [new pg.Client(url), new pg.Client(url)]
  await Promise.all(clients.map((client) => client.connect()))
  try {
    for (const n of range(20)) {
      const one = await clients[0].query({ name: 'same', text: 'select $1::int as v', values: [n] })
      const two = await clients[1].query({ name: 'same', text: 'select $1::text || $2::text as v', values: ['x', n] })
      assert.deepEqual([one.rows[0].v, two.rows[0].v], [n, `x${n}`])
    }
  } finally {
    await Promise.all(clients.map((client) => client.end()))
  }
})

add('pool:node-postgres', 'transactions, and errors with their codes', () => withPool({ max: 10 }, async (pool) => {
  await pool.query('drop table if exists node_account')
  await pool.query('create table node_account (id int primary key, n int not null)')
  await Promise.all(range(50).map(async (n) => {
    const client = await pool.connect()
    try {
      await client.query('begin')
      await client.query('insert into node_account values ($1, $1)', [n])
      await client.query('savepoint s')
      await assert.rejects(client.query('insert into node_account values ($1, null)', [n + 100]), { code: '23502' })
      await client.query('rollback to s')
      await client.query(n % 2 ? 'commit' : 'rollback')
    } finally {
      client.release()
    }
  }))
  assert.equal((await pool.query('select count(*)::int as c from node_account')).rows[0].c, 25)
}))

add('pool:node-postgres', 'several statements in one text, and large values', () => withPool({}, async (pool) => {
  const many = await pool.query('select 1 as a; select 2 as a; select 3 as a')
  assert.deepEqual(many.map((result) => result.rows[0].a), [1, 2, 3])
  const text = 'y'.repeat(4 << 20)
  assert.equal((await pool.query('select length($1::text) as l', [text])).rows[0].l, text.length)
}))

add('pool:postgres.js', 'every statement prepared and pipelined, 500 at once', () => withSql({ max: 20 }, async (sql) => {
  const sums = await Promise.all(range(500).map((n) => n % 2
    ? sql`select ${n}::int + 1 as sum`
    : sql`select ${n}::int + ${1}::int as sum`))
  assert.deepEqual(sums.map((rows) => rows[0].sum), range(500).map((n) => n + 1))
}))

add('pool:postgres.js', 'transactions, savepoints, dynamic inserts, errors', () => withSql({ max: 10 }, async (sql) => {
  await sql`drop table if exists js_item`
  await sql`create table js_item (id int primary key, name text)`
  await sql`insert into js_item ${sql(range(200).map((id) => ({ id, name: `n${id}` })), 'id', 'name')}`
  await Promise.all(range(30).map((n) => sql.begin(async (tx) => {
    await assert.rejects(tx.savepoint((inner) => inner`insert into js_item values (${n}, 'twice')`), { code: '23505' })
    await tx`update js_item set name = ${`m${n}`} where id = ${n}`
  })))
  const [{ count }] = await sql`select count(*)::int from js_item where name like 'm%'`
  assert.equal(count, 30)
  await assert.rejects(sql`select 1 / ${0}::int`, { code: '22012' })
  const [{ one }] = await sql`select ${1}::int as one`
  assert.equal(one, 1)
}))

add('pool:postgres.js', 'a cursor, a query that is cancelled, and COPY both ways', () => withSql({ max: 5 }, async (sql) => {
  let seen = 0
  await sql`select n from generate_series(1, 1000) n`.cursor(100, (rows) => { seen += rows.length })
  assert.equal(seen, 1000)
  const slow = sql`select pg_sleep(30)`.execute()
  setTimeout(() => slow.cancel(), 300)
  await assert.rejects(slow, { code: '57014' })
  await sql`drop table if exists js_copy`
  await sql`create table js_copy (n int)`
  const to = await sql`copy js_copy from stdin`.writable()
  for (const n of range(5000)) to.write(`${n}\n`)
  to.end()
  await once(to, 'finish')
  assert.equal((await sql`select count(*)::int as c from js_copy`)[0].c, 5000)
  // Last: the driver does not use a connection again after this, at Postgres itself neither.
  const out = await sql`copy js_copy to stdout`.readable()
  let bytes = 0
  for await (const piece of out) bytes += piece.length
  assert.equal(bytes, 23890)
}))

async function withPrisma (use) {
  const { PrismaClient } = require(generated)
  const { PrismaPg } = require('@prisma/adapter-pg')
  const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max: 20 }) })
  try {
    await prisma.$executeRawUnsafe('create table if not exists prisma_item (id serial primary key, name text not null, qty int not null)')
    await prisma.$executeRawUnsafe('create table if not exists prisma_tag (id serial primary key, word text unique not null, "itemId" int not null references prisma_item)')
    await prisma.tag.deleteMany()
    await prisma.item.deleteMany()
    return await use(prisma)
  } finally {
    await prisma.$disconnect()
  }
}

add('pool:prisma', 'create, relations, filters, updates, 100 at once', () => withPrisma(async (prisma) => {
  await Promise.all(range(100).map((n) => prisma.item.create({
    data: { name: `item ${n}`, qty: n, tags: { create: [{ word: `a${n}` }, { word: `b${n}` }] } }
  })))
  const found = await prisma.item.findMany({ where: { qty: { lt: 10 } }, include: { tags: true }, orderBy: { qty: 'asc' } })
  assert.deepEqual(found.map((item) => [item.qty, item.tags.length]), range(10).map((n) => [n, 2]))
  assert.equal((await prisma.item.updateMany({ where: { qty: { gte: 50 } }, data: { qty: { increment: 1 } } })).count, 50)
  assert.equal((await prisma.item.aggregate({ _sum: { qty: true } }))._sum.qty, 4950 + 50)
  await assert.rejects(prisma.tag.create({ data: { word: 'a1', itemId: found[0].id } }), { code: 'P2002' })
}))

add('pool:prisma', 'transactions: of a list, interactive, rolled back', () => withPrisma(async (prisma) => {
  const [one, two] = await prisma.$transaction([
    prisma.item.create({ data: { name: 'one', qty: 1 } }),
    prisma.item.create({ data: { name: 'two', qty: 2 } })
  ])
  assert.ok(two.id > one.id)
  await Promise.all(range(20).map((n) => prisma.$transaction(async (tx) => {
    const item = await tx.item.findUniqueOrThrow({ where: { id: n % 2 ? one.id : two.id } })
    await tx.item.update({ where: { id: item.id }, data: { qty: { increment: 1 } } })
  }, { maxWait: 20_000, timeout: 20_000 })))
  await assert.rejects(prisma.$transaction(async (tx) => {
    await tx.item.create({ data: { name: 'never', qty: 0 } })
    throw new Error('no')
  }), /no/)
  assert.equal(await prisma.item.count(), 2)
  assert.equal((await prisma.item.aggregate({ _sum: { qty: true } }))._sum.qty, 23)
}))

add('pool:prisma', 'raw queries with and without values', () => withPrisma(async (prisma) => {
  for (const n of range(30)) {
    assert.deepEqual(await prisma.$queryRaw`select ${n}::int + 1 as sum`, [{ sum: n + 1 }])
    assert.deepEqual(await prisma.$queryRawUnsafe('select 1 as one'), [{ one: 1 }])
  }
}))

async function main () {
  for (const { group, name, run } of cases) {
    let timer
    const late = new Promise((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`not within ${CASE_MAX / 1000} s`)), CASE_MAX)
    })
    let error = null
    try {
      await Promise.race([run(), late])
    } catch (thrown) {
      error = thrown.cause ? `${thrown.stack}\ncaused by ${thrown.cause.stack}` : String(thrown.stack)
    }
    clearTimeout(timer)
    console.log(JSON.stringify({ group, name, error }))
  }
  process.exit(0)
}

main()

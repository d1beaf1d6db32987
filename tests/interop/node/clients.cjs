// Node's clients against the gateway: undici (fetch and Pool) and the http module's agent. Called by `node_clients.py` as
// `node clients.cjs GATEWAY`; prints one JSON object a line: {"group", "name", "error"}, error being null if it passed.
'use strict'

const assert = require('node:assert/strict')
const http = require('node:http')
const { createHash } = require('node:crypto')
const { Readable } = require('node:stream')
const { once } = require('node:events')
const undici = require('undici')

const gateway = process.argv[2]
const MIB = 1024 * 1024
// No case takes longer, whatever happens.
const CASE_MAX = 60_000
const cases = []
const add = (group, name, run) => cases.push({ group, name, run })
const sha256 = (...pieces) => pieces.reduce((sha, piece) => sha.update(piece), createHash('sha256')).digest('hex')

add('undici', 'fetch: GET, POST of JSON, and 100 at once', async () => {
  const answer = await undici.fetch(`${gateway}/echo?a=1`)
  assert.equal((await answer.json()).target, '/echo?a=1')
  const posted = await undici.fetch(`${gateway}/echo`, { method: 'POST', body: JSON.stringify({ a: 1 }) })
  assert.equal((await posted.json()).length, 7)
  const targets = await Promise.all(Array.from({ length: 100 }, async (_, n) => {
    return (await (await undici.fetch(`${gateway}/echo/${n}`)).json()).target
  }))
  assert.deepEqual(targets, targets.map((_, n) => `/echo/${n}`))
})

add('undici', 'fetch: a body that is streamed up without a length', async () => {
  const piece = Buffer.alloc(MIB, 7)
  const body = Readable.toWeb(Readable.from((function * () { for (let n = 0; n < 16; n++) yield piece })()))
  const answer = await undici.fetch(`${gateway}/echo`, { method: 'PUT', body, duplex: 'half' })
  const seen = await answer.json()
  assert.equal(seen.length, 16 * MIB)
  assert.equal(seen.sha256, sha256(...Array(16).fill(piece)))
})

add('undici', 'fetch: an answer that is broken off halfway by the client does no harm', async () => {
  for (let n = 0; n < 10; n++) {
    const answer = await undici.fetch(`${gateway}/chunked/${16 * MIB}`)
    const reader = answer.body.getReader()
    await reader.read()
    await reader.cancel()
  }
  assert.equal((await undici.fetch(`${gateway}/healthz`)).status, 200)
})

add('undici', 'Pool with pipelining 10: 2,000 requests, each with its own answer', async () => {
  const pool = new undici.Pool(gateway, { connections: 4, pipelining: 10 })
  try {
    await Promise.all(Array.from({ length: 2000 }, async (_, n) => {
      const { statusCode, body } = await pool.request({ path: `/echo/${n}`, method: 'GET' })
      assert.equal(statusCode, 200)
      assert.equal((await body.json()).target, `/echo/${n}`)
    }))
  } finally {
    await pool.close()
  }
})

add('undici', 'HEAD and 304 leave a pipelined connection in step', async () => {
  const client = new undici.Client(gateway, { pipelining: 10 })
  try {
    const head = (path) => client.request({ path, method: 'HEAD' })
    const cached = () => client.request({ path: '/etag', method: 'GET', headers: { 'if-none-match': '"v1"' } })
    const plain = (path) => client.request({ path, method: 'GET' })
    const answers = await Promise.all([head('/length/700'), cached(), plain('/echo/1'), head('/chunked/700'), cached(), plain('/echo/2')])
    const texts = await Promise.all(answers.map((answer) => answer.body.text()))
    assert.deepEqual(answers.map((answer) => answer.statusCode), [200, 304, 200, 200, 304, 200])
    assert.equal(answers[0].headers['content-length'], '700')
    assert.equal(answers[1].headers.etag, '"v1"')
    assert.deepEqual([0, 1, 3, 4].map((n) => texts[n]), ['', '', '', ''])
    assert.deepEqual([2, 5].map((n) => JSON.parse(texts[n]).target), ['/echo/1', '/echo/2'])
  } finally {
    await client.close()
  }
})

add('undici', 'both ways at once: each piece comes back before the next is sent', async () => {
  const client = new undici.Client(gateway)
  try {
    const up = client.pipeline({ path: '/duplex', method: 'POST' }, ({ body }) => body)
    for (let n = 0; n < 50; n++) {
      up.write(`piece ${n}\n`)
      let back = ''
      while (!back.endsWith('\n')) {
        const piece = up.read()
        if (piece === null) await once(up, 'readable')
        else back += piece
      }
      assert.equal(back, `piece ${n}\n`)
    }
    up.end()
    up.resume()
    await once(up, 'end')
  } finally {
    await client.close()
  }
})

/** A request of the http module; gives the answer with its text and what happened before it. */
function ask (options, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(gateway + options.path, options)
    const before = []
    request.on('continue', () => { before.push('continue'); request.end(body) })
    request.on('information', (info) => before.push(info))
    request.on('error', reject)
    request.on('response', (answer) => {
      let text = ''
      answer.on('data', (piece) => { text += piece })
      answer.on('error', reject)
      answer.on('end', () => resolve({ answer, text, before, port: request.socket.localPort, trailers: answer.trailers }))
    })
    if (options.headers?.expect) request.flushHeaders()
    else if (options.trailers) { request.write(body); request.addTrailers(options.trailers); request.end() }
    else request.end(body)
  })
}

add('node http', 'an agent with keepAlive: 100 requests on one connection', async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  try {
    const ports = new Set()
    for (let n = 0; n < 100; n++) {
      const { answer, text, port } = await ask({ agent, path: `/echo/${n}`, method: n % 2 ? 'POST' : 'GET' }, n % 2 ? 'body' : undefined)
      assert.equal(answer.statusCode, 200)
      assert.equal(JSON.parse(text).target, `/echo/${n}`)
      ports.add(port)
    }
    assert.equal(ports.size, 1)
  } finally {
    agent.destroy()
  }
})

add('node http', 'Expect: 100-continue: the body is sent once the service wants it', async () => {
  const { answer, text, before } = await ask({ path: '/echo', method: 'PUT', headers: { expect: '100-continue' } }, 'wanted')
  assert.equal(answer.statusCode, 200)
  assert.deepEqual(before.filter((what) => what === 'continue'), ['continue'])
  assert.equal(JSON.parse(text).sha256, sha256('wanted'))
})

add('node http', '103 Early Hints arrive as information', async () => {
  const { answer, before } = await ask({ path: '/raw/hints' })
  assert.equal(answer.statusCode, 200)
  assert.equal(before.length, 1)
  assert.equal(before[0].statusCode, 103)
  assert.equal(before[0].headers.link, '</style.css>; rel=preload')
})

add('node http', 'trailers both ways', async () => {
  const up = await ask({ path: '/raw/digest', method: 'POST', headers: { trailer: 'X-Check', 'transfer-encoding': 'chunked' }, trailers: { 'X-Check': 'yes' } }, 'abc')
  assert.deepEqual(JSON.parse(up.text).trailers, ['X-Check: yes'])
  const down = await ask({ path: '/raw/trailers' })
  assert.equal(down.text, 'hello')
  assert.deepEqual({ ...down.trailers }, { 'x-sum': '42' })
})

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

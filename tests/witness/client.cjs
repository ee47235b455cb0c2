// What node-postgres is witnessed with: values, a prepared statement, a transaction with an error, COPY both ways.

const { readFileSync } = require("node:fs");
const { pipeline } = require("node:stream/promises");
const { Readable, Writable } = require("node:stream");
const { Client } = require("pg");
const copies = require("pg-copy-streams");

const VALUES = [41, "it's \\ Zoë", 1.5, 0.1, true, null, Buffer.from([0, 255]), new Date(0), [1, 2], { a: [1] }];

async function main() {
  const client = new Client({
    host: process.env.PGHOST,
    ssl: { ca: readFileSync(process.env.PGSSLROOTCERT), servername: process.env.PGHOST },
  });
  await client.connect();
  await client.query("CREATE TABLE t (n int PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'one')");
  for (const value of VALUES) {
    await client.query("SELECT $1", [value]).catch(() => undefined); // the NUL in a text
  }
  await client.query("SELECT $1::int + 1, $2::bytea, $3::timestamptz, $4::int[]", [7, VALUES[6], VALUES[7], [1, 2]]);
  for (let number = 10; number < 30; number += 1) {
    await client.query({ name: "insert", text: "INSERT INTO t VALUES ($1, $2)", values: [number, `n ${number}`] });
  }
  await client.query("BEGIN");
  await client.query("INSERT INTO t VALUES ($1, $2)", [1, "again"]).catch(() => undefined);
  await client.query("SELECT 1").catch(() => undefined);
  await client.query("ROLLBACK");
  const lines = Array.from({ length: 1000 }, (_, number) => `${number + 100}\tx\n`);
  await pipeline(Readable.from(lines), client.query(copies.from("COPY t FROM STDIN")));
  const nowhere = new Writable({ write: (chunk, encoding, done) => done() });
  await pipeline(client.query(copies.to("COPY t TO STDOUT")), nowhere);
  await client.query(";");
  await client.end();
}

main();

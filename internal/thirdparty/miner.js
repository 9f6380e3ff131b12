'use strict';
// A miner that uses the client of the package stratum-client.
// Usage: node miner.js HOST PORT WORKER ZERO-BITS
const { createRequire } = require('module');
const { join } = require('path');
const fromPackages = createRequire(join(process.env.TEST_PROGRAMS, 'x.js'));
const connect = fromPackages('stratum-client');
const { mine } = require('./work.js');

const [server, port, worker, bits] = process.argv.slice(2);
let work = null;
let count = 0;

function submit() {
  const job = { coinb1: work.coinb1, coinb2: work.coinb2, branches: work.merkle_branch, prevhash: work.prevhash, version: work.version, nbits: work.nbits };
  const extranonce2 = (++count).toString(16).padStart(2 * work.extraNonce2Size, '0');
  const nonce = mine(job, work.extraNonce1, extranonce2, work.ntime, Number(bits));
  client.submit({ worker_name: worker, job_id: work.jobId, extranonce2, ntime: work.ntime, nonce });
}

const client = connect({
  server, port: Number(port), worker, autoReconnectOnError: false,
  onSubscribe: (s) => console.log(`subscribed ${s.extraNonce1} ${s.extraNonce2Size}`),
  onAuthorizeSuccess: () => console.log('authorized'),
  onAuthorizeFail: (error) => console.log('refused', JSON.stringify(error)),
  onNewMiningWork: (w) => {
    const first = work === null;
    work = w;
    if (first) submit();
  },
  onSubmitWorkSuccess: () => {
    console.log('accepted');
    setTimeout(submit, 10);
  },
  onSubmitWorkFail: (error) => {
    console.log('rejected', JSON.stringify(error));
    setTimeout(submit, 10);
  },
  onError: (error) => console.log('error', error.message),
  onClose: () => console.log('closed'),
});

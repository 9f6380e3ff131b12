'use strict';
// A pool that uses the server of the package stratum. It picks its miners' extranonce1
// and does not support version rolling.
// Usage: node pool.js NAME EXTRANONCE2-SIZE ZERO-BITS
const { createRequire } = require('module');
const { join } = require('path');
const { randomBytes } = require('crypto');
const fromPackages = createRequire(join(process.env.TEST_PROGRAMS, 'x.js'));
const { Server } = fromPackages('stratum');
const { zeroBits } = require('./work.js');

const [name, size, bits] = process.argv.slice(2);
const server = Server.create({ settings: { hostname: 'localhost', host: '127.0.0.1', port: 0, toobusy: 100000 } });
server.rpc = null;

const job = {
  id: name + '-1', prevhash: '00000000'.repeat(7) + randomBytes(4).toString('hex'),
  coinb1: '01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff10', coinb2: 'ffffffff00000000',
  branches: [randomBytes(32).toString('hex')], version: '20000000', nbits: '1d00ffff', ntime: '65a0b1c2',
};
const difficulty = 2 ** (Number(bits) - 32);
const seen = new Set();

server.on('mining', (request, deferred, socket) => {
  const params = request.params;
  switch (request.method) {
    case 'subscribe':
      if (params.length > 1) console.log('fault: subscribe', JSON.stringify(params));
      socket.extranonce1 = randomBytes(4).toString('hex');
      deferred.resolve([String(difficulty), 's' + socket.extranonce1, socket.extranonce1, Number(size)]);
      break;
    case 'authorize':
      socket.worker = params[0];
      deferred.resolve([true]);
      setTimeout(() => {
        socket.set_difficulty([difficulty]);
        socket.notify([job.id, job.prevhash, job.coinb1, job.coinb2, job.branches, job.version, job.nbits, job.ntime, true]);
      }, 10);
      break;
    case 'submit': {
      const [worker, id, extranonce2, ntime, nonce] = params;
      const share = [socket.id, ...params].join(' ');
      let fault = '';
      if (params.length !== 5) fault = 'parameters';
      else if (worker !== socket.worker) fault = 'worker';
      else if (id !== job.id) fault = 'job';
      else if (extranonce2.length !== 2 * Number(size)) fault = 'extranonce2';
      else if (seen.has(share)) fault = 'duplicate';
      else if (zeroBits(job, socket.extranonce1, extranonce2, ntime, nonce) < Number(bits)) fault = 'work';
      seen.add(share);
      console.log(fault === '' ? 'accepted' : 'rejected ' + fault + ' ' + JSON.stringify(params));
      deferred.resolve([fault === '']);
      break;
    }
    default:
      deferred.reject(['unknown method']);
  }
});
server.listen().then(() => console.log(`listening ${server.server.address().port}`));

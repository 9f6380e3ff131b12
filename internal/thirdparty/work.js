'use strict';
// Functions that compute and find the proof of work of a share.
const { createHash } = require('crypto');

const sha256 = (b) => createHash('sha256').update(b).digest();
const hash256 = (b) => sha256(sha256(b));
const hex = (text) => Buffer.from(text, 'hex');
const reversed = (text) => Buffer.from(hex(text)).reverse();

exports.zeroBits = function (job, extranonce1, extranonce2, ntime, nonce) {
  let root = hash256(Buffer.concat([job.coinb1, extranonce1, extranonce2, job.coinb2].map(hex)));
  for (const branch of job.branches) {
    root = hash256(Buffer.concat([root, hex(branch)]));
  }
  const words = job.prevhash.match(/.{8}/g).map((word) => reversed(word));
  const header = Buffer.concat([reversed(job.version), ...words, root, reversed(ntime), reversed(job.nbits), reversed(nonce)]);
  const hash = hash256(header).reverse();
  let bits = 0;
  for (const byte of hash) {
    bits += Math.clz32(byte) - 24;
    if (byte !== 0) break;
  }
  return bits;
};

exports.mine = function (job, extranonce1, extranonce2, ntime, bits) {
  for (let n = 0; ; n++) {
    const nonce = n.toString(16).padStart(8, '0');
    if (exports.zeroBits(job, extranonce1, extranonce2, ntime, nonce) >= bits) return nonce;
  }
};

/** Compression by the browser's own streams. */

/** Inflate gzip, or deflate with zlib's header; more than `most` bytes are refused while they arrive. */
export async function inflate(bytes, most, format = "gzip") {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format)).getReader();
  const parts = [];
  let total = 0;
  for (;;) {
    const { value, done } = await reader.read().catch(() => {
      throw new Error("the compressed file is truncated or damaged.");
    });
    if (done) break;
    total += value.length;
    if (total > most) {
      await reader.cancel();
      throw new Error(`it inflates to more than ${(most / 2 ** 30).toFixed(0)} GiB.`);
    }
    parts.push(value);
  }
  return concatenate(parts, total);
}

export function gzip(bytes) {
  return through(bytes, "gzip");
}

/** Deflate with zlib's header, as PNG has it. */
export function zlib(bytes) {
  return through(bytes, "deflate");
}

async function through(bytes, format) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream(format));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export function concatenate(parts, total) {
  const whole = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

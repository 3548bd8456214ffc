// Finds the names of the external data files that an ONNX model refers to, by walking the few protobuf fields that lead there, so that
// the bytes can be handed to a runtime without a file system (WebAssembly).

interface Field {
  readonly number: number;
  readonly bytes: Uint8Array;
}

/** Length-delimited fields of one message; stops silently where the bytes are no message, which the runtime then says better. */
function* lengthDelimited(message: Uint8Array): Generator<Field> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; at < message.length && shift < 64; shift += 7) {
      const byte = message[at++] as number;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
    at = message.length + 1;
    return 0;
  };
  while (at < message.length) {
    const key = varint();
    const wire = key & 7;
    if (wire === 0) varint();
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const length = varint();
      if (at + length > message.length) return;
      yield { number: Math.floor(key / 8), bytes: message.subarray(at, at + length) };
      at += length;
    } else return;
  }
}

const inside = (messages: Iterable<Uint8Array>, number: number) =>
  [...messages].flatMap((message) => [...lengthDelimited(message)].filter((field) => field.number === number).map((field) => field.bytes));

/** Distinct `location`s of a model's initializers, in order: model.graph(7).initializer(5).external_data(13) {key(1), value(2)}. */
export function externalDataLocations(model: Uint8Array): readonly string[] {
  const decoder = new TextDecoder();
  const entries = inside(inside(inside([model], 7), 5), 13);
  const locations = entries.flatMap((entry) => {
    const fields = new Map([...lengthDelimited(entry)].map((field) => [field.number, decoder.decode(field.bytes)]));
    return fields.get(1) === 'location' ? [fields.get(2) ?? ''] : [];
  });
  return [...new Set(locations)];
}

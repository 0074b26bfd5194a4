// A graph model's directory and a JSON file of inputs, {name: {type, values}}, -> its outputs as JSON, in Node.
const fs = require('fs');
const path = require('path');
const tf = require('@tensorflow/tfjs');

async function main(directory, file) {
  const model = JSON.parse(fs.readFileSync(path.join(directory, 'model.json'), 'utf8'));
  const parts = model.weightsManifest.flatMap((group) => group.paths).map((name) => fs.readFileSync(path.join(directory, name)));
  const bytes = Buffer.concat(parts);
  const graph = await tf.loadGraphModel(
    tf.io.fromMemory({
      modelTopology: model.modelTopology,
      format: model.format,
      signature: model.signature,
      weightSpecs: model.weightsManifest.flatMap((group) => group.weights),
      weightData: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length),
    })
  );
  const given = JSON.parse(fs.readFileSync(file, 'utf8'));
  const tensors = Object.fromEntries(
    Object.entries(given).map(([name, input]) => [name, tf.tensor(input.values, undefined, input.type)])
  );
  const output = graph.predict(tensors);
  console.log(JSON.stringify(await output.array()));
}

main(process.argv[2], process.argv[3]);

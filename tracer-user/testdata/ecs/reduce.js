// Writes fields.json: the names, types and allowed values of ECS, reduced from the npm package
// @elastic/ecs (Apache-2.0, Elasticsearch B.V.). Run in an empty folder:
//
//   npm pack @elastic/ecs@9.4.0 && tar xzf elastic-ecs-9.4.0.tgz && node reduce.js package > fields.json
//
// A type is followed by [] where ECS normalises the field to a list.
const path = require('path');
const { EcsFlat, EcsVersion } = require(path.resolve(process.argv[2], 'build/commonjs/index.js'));

const names = (field) => EcsFlat[field].allowed_values.map((value) => value.name);
const types = {};
for (const value of EcsFlat['event.category'].allowed_values) {
  types[value.name] = value.expected_event_types;
}
const line = (value) => JSON.stringify(value);
const fields = Object.keys(EcsFlat).sort().map((name) => {
  const field = EcsFlat[name];
  return `${line(name)}:${line(field.type + (field.normalize.includes('array') ? '[]' : ''))}`;
});
process.stdout.write(`{
"notice":"Reduced from @elastic/ecs ${EcsVersion}, Copyright 2023 Elasticsearch B.V., Apache-2.0; see README.md",
"version":${line(EcsVersion)},
"event.kind":${line(names('event.kind'))},
"event.outcome":${line(names('event.outcome'))},
"event.type":${line(names('event.type'))},
"event.category":${line(types)},
"fields":{
${fields.join(',\n')}
}
}
`);

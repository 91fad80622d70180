/**
 * What this edge can do, read from its OpenAPI document.
 *
 * @typedef {{name: string, kind: "number" | "switch" | "choice" | "group", description: string, default: any,
 *   min?: number, max?: number, above?: number, isWhole?: boolean, choices?: string[], fields?: Field[]}} Field
 */

/**
 * Whether a route exists.
 * @param {any} openapi @param {string} path as the document writes it, `/tasks/{task_id}` @param {string} method lower case
 */
export function has(openapi, path, method) {
  const plain = (/** @type {string} */ text) => text.replace(/\{[^}]*\}/g, "{}");
  const found = Object.keys(openapi?.paths ?? {}).find((each) => plain(each) === plain(path));
  return Boolean(found && openapi.paths[found][method]);
}

/**
 * The fields of a task's configuration, without older names of others.
 * @param {any} openapi @returns {Field[]}
 */
export function configFields(openapi) {
  const headers = openapi?.paths?.["/detect/video"]?.post?.parameters ?? [];
  const config = headers.find((/** @type {any} */ each) => each.name === "X-Config")?.schema?.contentSchema;
  return fieldsOf(config);
}

/** @param {any} schema of an object @returns {Field[]} */
function fieldsOf(schema) {
  return Object.entries(schema?.properties ?? {}).flatMap(([name, property]) => {
    const field = fieldOf(name, property);
    return field && !/\bolder name\b/.test(field.description) ? [field] : [];
  });
}

/** @param {string} name @param {any} property @returns {Field | null} */
function fieldOf(name, property) {
  const schema = property.anyOf ? { ...property, ...property.anyOf.find((/** @type {any} */ each) => each.type !== "null") } : property;
  const field = { name, description: schema.description ?? "", default: property.default ?? null };
  if (schema.properties) return { ...field, kind: "group", fields: fieldsOf(schema) };
  if (schema.enum) return { ...field, kind: "choice", choices: schema.enum };
  if (schema.type === "boolean") return { ...field, kind: "switch" };
  if (schema.type !== "number" && schema.type !== "integer") return null;
  return {
    ...field,
    kind: "number",
    min: schema.minimum,
    max: schema.maximum,
    above: schema.exclusiveMinimum,
    isWhole: schema.type === "integer",
  };
}

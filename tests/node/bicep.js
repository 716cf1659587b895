// Parses Bicep files; prints, as JSON, each file's syntax errors, resources with their properties, and outputs.
import fs from "node:fs";
import Parser from "tree-sitter";
import Bicep from "tree-sitter-bicep";

const parser = new Parser();
parser.setLanguage(Bicep);

const unquoted = (text) => text.replace(/^'|'$/g, "");

function errorsIn(node) {
  if (!node.hasError) return [];
  const own = node.isError || node.isMissing ? [node.startPosition.row + 1] : [];
  return [...own, ...node.children.flatMap(errorsIn)];
}

// The properties of an object by their paths, such as properties.siteConfig.minTlsVersion, as they are written.
function properties(object, path, found) {
  for (const property of object.namedChildren) {
    const [key, value] = property.namedChildren;
    // Resources can stand in resources; they are listed by themselves.
    if (property.type !== "object_property" || key.type === "resource_declaration") continue;
    const here = [...path, unquoted(key.text)];
    if (value?.type === "object") properties(value, here, found);
    else found[here.join(".")] = unquoted(value?.text ?? "");
  }
  return found;
}

function bodyOf(declaration) {
  const last = declaration.namedChildren.at(-1);
  if (last.type === "object") return last;
  return last.descendantsOfType("object")[0];
}

function read(file) {
  const root = parser.parse(fs.readFileSync(file, "utf8")).rootNode;
  const resources = root.descendantsOfType("resource_declaration").map((declaration) => {
    const [name, type] = declaration.namedChildren;
    const body = bodyOf(declaration);
    return { name: name.text, type: unquoted(type.text), properties: body ? properties(body, [], {}) : {} };
  });
  const outputs = root.descendantsOfType("output_declaration").map((output) => output.text);
  return { file, errors: errorsIn(root), resources, outputs };
}

console.log(JSON.stringify(process.argv.slice(2).map(read)));

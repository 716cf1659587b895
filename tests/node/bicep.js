// Parse Bicep files. Print, as JSON, the lines with syntax errors, the resources with their properties, and the outputs.
import fs from "node:fs";
import Parser from "tree-sitter";
import Bicep from "tree-sitter-bicep";

const parser = new Parser();
parser.setLanguage(Bicep);

const unquote = (text) => text.replace(/^'|'$/g, "");

function errorLines(node) {
  if (!node.hasError) return [];
  const line = node.isError || node.isMissing ? [node.startPosition.row + 1] : [];
  return [...line, ...node.children.flatMap(errorLines)];
}

// Collect an object's properties by path, such as properties.siteConfig.minTlsVersion. The values are source text.
function properties(object, parents, found) {
  for (const property of object.namedChildren) {
    const [key, value] = property.namedChildren;
    // A resource within a resource gets an entry of its own.
    if (property.type !== "object_property" || key.type === "resource_declaration") continue;
    const path = [...parents, unquote(key.text)];
    if (value?.type === "object") properties(value, path, found);
    else found[path.join(".")] = unquote(value?.text ?? "");
  }
  return found;
}

function bodyOf(declaration) {
  const last = declaration.namedChildren.at(-1);
  if (last.type === "object") return last;
  return last.descendantsOfType("object")[0];
}

function parse(file) {
  const root = parser.parse(fs.readFileSync(file, "utf8")).rootNode;
  const resources = root.descendantsOfType("resource_declaration").map((declaration) => {
    const [name, type] = declaration.namedChildren;
    const body = bodyOf(declaration);
    return { name: name.text, type: unquote(type.text), properties: body ? properties(body, [], {}) : {} };
  });
  const outputs = root.descendantsOfType("output_declaration").map((output) => output.text);
  return { file, errors: errorLines(root), resources, outputs };
}

console.log(JSON.stringify(process.argv.slice(2).map(parse)));

// Bundles all widgets into course_utils/widgets/dist/course.js: `make widgets`, or with --check tells if it is stale.
import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const target = new URL("../../course_utils/widgets/dist/course.js", import.meta.url);
const { outputFiles } = await build({
  absWorkingDir: here,
  entryPoints: ["entry.js"],
  bundle: true,
  format: "esm",
  minify: true,
  charset: "utf8",
  legalComments: "none",
  loader: { ".css": "text" },
  nodePaths: [`${here}node_modules`],
  write: false,
});
const made = outputFiles[0].text;
const there = await readFile(target, "utf-8").catch(() => "");
if (process.argv.includes("--check")) {
  if (made !== there) {
    console.error("course_utils/widgets/dist/course.js is not what its sources make: make widgets");
    process.exit(1);
  }
} else if (made !== there) {
  await writeFile(target, made);
  console.log(`wrote course_utils/widgets/dist/course.js, ${(made.length / 1000).toFixed(0)} kB`);
}
